//! Products of matrices by cuBLASLt: its best algorithm for a shape is asked for once. Not here: which
//! products there are.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use engine::{EngineError, Precision};

use super::Library;
use super::stream::{Piece, Stream};
use crate::driver::{Lie, Number, Product};

/// Memory that an algorithm may use; NVIDIA's advice for Hopper.
pub(super) const WORKSPACE_BYTES: usize = 32 << 20;
/// The most that cuBLASLt makes use of.
const MOST_ALIGNMENT: u32 = 256;

/// cuBLASLt for one queue. Made, used and dropped with the context current.
pub(super) struct Products {
    prepared: HashMap<Key, Prepared>,
    handle: sys::cublasLtHandle_t,
    workspace: Piece,
    precision: Precision,
}

// SAFETY: handle and descriptions may be used by one thread at a time, whichever it is, with the context current.
unsafe impl Send for Products {}

/// What an algorithm was chosen for: a product, and the bytes that divide all three addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    product: Product,
    alignment: u32,
}

/// A product as cuBLASLt has it.
struct Prepared {
    operation: Operation,
    a: Layout,
    b: Layout,
    c: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// Its version, as in 120803; `None` where it is not there.
pub fn version() -> Option<usize> {
    // SAFETY: the library is there when it is called.
    Library::CublasLt.is_there().then(|| unsafe { sys::cublasLtGetVersion() })
}

impl Products {
    pub(super) fn new(stream: &Stream, precision: Precision) -> Result<Products, EngineError> {
        let workspace = stream.allocate(WORKSPACE_BYTES)?;
        let handle = result::create_handle().map_err(|error| failed("start", error))?;
        Ok(Products { prepared: HashMap::new(), handle, workspace, precision })
    }

    /// Finds an algorithm for a product of matrices at such addresses, unless one was found before.
    pub(super) fn prepare(&mut self, product: &Product, addresses: u64) -> Result<Key, EngineError> {
        let key = Key { product: *product, alignment: alignment(addresses) };
        if !self.prepared.contains_key(&key) {
            let prepared = Prepared::new(self.handle, &key, self.precision);
            self.prepared.insert(key, prepared.map_err(|error| failed("prepare", error))?);
        }
        Ok(key)
    }

    /// Asks the stream for a product that was prepared; all matrices lie within their memory.
    pub(super) fn run(&self, key: &Key, [a, b, c]: [u64; 3], stream: &Stream) -> Result<(), EngineError> {
        let (alpha, beta) = (1f32, if key.product.adds { 1f32 } else { 0f32 });
        let workspace = self.workspace.address(0, WORKSPACE_BYTES)?;
        let unprepared = || EngineError::Device("a product was not prepared".into());
        let prepared = self.prepared.get(key).ok_or_else(unprepared)?;
        // SAFETY: descriptions and matrices fit each other (`Prepared::new`, `extents`); alpha and beta are read at
        // once, the matrices before the queue gives any memory back.
        let multiplied = unsafe {
            result::matmul(
                self.handle,
                prepared.operation.0,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                a as *const c_void,
                prepared.a.0,
                b as *const c_void,
                prepared.b.0,
                c as *const c_void,
                prepared.c.0,
                c as *mut c_void,
                prepared.c.0,
                &raw const prepared.algorithm,
                workspace as *mut c_void,
                WORKSPACE_BYTES,
                stream.raw().cast(),
            )
        };
        multiplied.map_err(|error| failed("multiply", error))
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.prepared.clear();
        // SAFETY: it was made once, and nothing that it has begun is under way.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// Bytes from where each matrix begins to where it ends.
pub(super) fn extents(product: &Product) -> [usize; 3] {
    let Product { m, n, k, factors, result: number, .. } = *product;
    let bytes = |of: Number, [rows, columns]: [usize; 2], leading: usize| {
        of.bytes() * (leading * columns.saturating_sub(1) + rows)
    };
    [
        bytes(factors, stored(product.a, [m, k]), product.a.leading),
        bytes(factors, stored(product.b, [k, n]), product.b.leading),
        bytes(number, [m, n], product.leading_c),
    ]
}

/// Rows and columns in memory of what the product sees in such a shape.
fn stored(lie: Lie, [rows, columns]: [usize; 2]) -> [usize; 2] {
    if lie.transposed { [columns, rows] } else { [rows, columns] }
}

/// The power of two that divides all addresses of which these are the bits.
fn alignment(addresses: u64) -> u32 {
    1 << addresses.trailing_zeros().min(MOST_ALIGNMENT.trailing_zeros())
}

impl Prepared {
    fn new(handle: sys::cublasLtHandle_t, key: &Key, precision: Precision) -> Result<Prepared, CublasError> {
        let Product { m, n, k, a, b, leading_c, factors, result: number, .. } = key.product;
        let operation = Operation::new([a.transposed, b.transposed], precision)?;
        let (stored_a, stored_b) = (stored(a, [m, k]), stored(b, [k, n]));
        let (a, b) = (Layout::new(factors, stored_a, a.leading)?, Layout::new(factors, stored_b, b.leading)?);
        let (c, preference) = (Layout::new(number, [m, n], leading_c)?, Preference::new(key.alignment)?);
        // SAFETY: all of them were just made.
        let found = unsafe {
            result::get_matmul_algo_heuristic(handle, operation.0, a.0, b.0, c.0, c.0, preference.0)
        }?;
        Ok(Prepared { operation, a, b, c, algorithm: found.algo })
    }
}

/// A description of what is computed.
struct Operation(sys::cublasLtMatmulDesc_t);

impl Operation {
    fn new(transposed: [bool; 2], precision: Precision) -> Result<Operation, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t::{CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB};
        let compute = match precision {
            // Strict: f32 that is not cut to TF32. Factors in bfloat16 need no cutting.
            Precision::Fp32 | Precision::Bf16 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Precision::Tf32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        };
        let operation = Operation(result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?);
        let attributes = [CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB];
        for (attribute, transposed) in attributes.into_iter().zip(transposed) {
            let value = i32::from(transposed); // CUBLAS_OP_N and CUBLAS_OP_T
            // SAFETY: both attributes are numbers of that size.
            unsafe {
                let (value, size) = ((&raw const value).cast(), size_of_val(&value));
                result::set_matmul_desc_attribute(operation.0, attribute, value, size)?;
            }
        }
        Ok(operation)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: it was made once. A failure leaves nothing to do; so for the two below.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// A description of a matrix.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(number: Number, [rows, columns]: [usize; 2], leading: usize) -> Result<Layout, CublasError> {
        let number = match number {
            Number::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Number::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        };
        result::create_matrix_layout(number, rows as u64, columns as u64, leading as i64).map(Layout)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: it was made once.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm may count on.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(alignment: u32) -> Result<Preference, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t::{
            CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        };
        let preference = Preference(result::create_matmul_pref()?);
        preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE_BYTES)?;
        for matrix in [
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            preference.set(matrix, &alignment)?;
        }
        Ok(preference)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), CublasError> {
        // SAFETY: the callers' types are those that cuBLASLt documents: a size for the workspace, else 32 bits.
        unsafe {
            result::set_matmul_pref_attribute(self.0, attribute, (&raw const *value).cast(), size_of::<T>())
        }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: it was made once.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn failed(action: &str, error: CublasError) -> EngineError {
    EngineError::Device(format!("cuBLASLt cannot {action}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_is_what_divides_all_addresses() {
        assert_eq!(alignment(0x1000 | 0x2000), 256);
        assert_eq!(alignment(0x1000 | 0x2004 | 0x3010), 4);
    }
}

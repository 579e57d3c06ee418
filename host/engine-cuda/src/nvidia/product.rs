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
use crate::driver::{After, Lie, Number, Product};

/// Memory that an algorithm may use; NVIDIA's advice for Hopper.
pub(super) const WORKSPACE_BYTES: usize = 32 << 20;
/// The most that cuBLASLt makes use of.
const MOST_ALIGNMENT: u32 = 256;

/// cuBLASLt for one queue. Made, used and dropped with the context current.
pub(super) struct Products {
    /// `None` where there is no algorithm that does what follows as well.
    prepared: HashMap<Key, Option<Prepared>>,
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

    /// Finds an algorithm for a product of matrices at such addresses, unless one was found before; `None` where there is none that
    /// does what follows as well.
    pub(super) fn prepare(&mut self, product: &Product, at: &Addresses) -> Result<Option<Key>, EngineError> {
        let key = Key { product: *product, alignment: at.alignment() };
        let known = match self.prepared.get(&key) {
            Some(prepared) => prepared.is_some(),
            None => {
                let prepared = match Prepared::new(self.handle, &key, at, self.precision) {
                    Ok(prepared) => Some(prepared),
                    Err(error) if product.after == After::Nothing => return Err(failed("prepare", error)),
                    Err(_) => None,
                };
                self.prepared.entry(key).insert_entry(prepared).get().is_some()
            }
        };
        Ok(known.then_some(key))
    }

    /// Asks the stream for a product that was prepared; all matrices lie within their memory.
    pub(super) fn run(&self, key: &Key, at: &Addresses, stream: &Stream) -> Result<(), EngineError> {
        let adds = key.product.adds || key.product.after == After::BiasAndMatrix;
        let (alpha, beta) = (1f32, if adds { 1f32 } else { 0f32 });
        let workspace = self.workspace.address(0, WORKSPACE_BYTES)?;
        let unprepared = || EngineError::Device("a product was not prepared".into());
        let prepared = self.prepared.get(key).and_then(Option::as_ref).ok_or_else(unprepared)?;
        prepared.operation.point(key.product.after, at).map_err(|error| failed("prepare", error))?;
        // SAFETY: descriptions and matrices fit each other (`Prepared::new`, `Extents`); alpha and beta are read at
        // once, the matrices before the queue gives any memory back.
        let multiplied = unsafe {
            result::matmul(
                self.handle,
                prepared.operation.raw,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                at.a as *const c_void,
                prepared.a.0,
                at.b as *const c_void,
                prepared.b.0,
                at.onto as *const c_void,
                prepared.c.0,
                at.c as *mut c_void,
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

/// Where the matrices of a product begin; 0 for what it does not have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Addresses {
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) c: u64,
    /// What the product is added to: `c`, or another matrix.
    pub(super) onto: u64,
    pub(super) bias: u64,
    pub(super) before: u64,
}

impl Addresses {
    /// The power of two that divides all of them.
    fn alignment(&self) -> u32 {
        let Addresses { a, b, c, onto, bias, before } = self;
        alignment(a | b | c | onto | bias | before)
    }
}

/// Bytes from where each matrix begins to where it ends.
pub(super) struct Extents {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) c: usize,
    pub(super) bias: usize,
    pub(super) before: usize,
}

impl Extents {
    pub(super) fn of(product: &Product) -> Extents {
        let Product { m, n, k, factors, result: number, .. } = *product;
        let bytes = |of: Number, [rows, columns]: [usize; 2], leading: usize| {
            of.bytes() * (leading * columns.saturating_sub(1) + rows)
        };
        Extents {
            a: bytes(factors, stored(product.a, [m, k]), product.a.leading),
            b: bytes(factors, stored(product.b, [k, n]), product.b.leading),
            c: bytes(number, [m, n], product.leading_c),
            bias: m * number.bytes(),
            before: m * n * number.bytes(),
        }
    }
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
    fn new(
        handle: sys::cublasLtHandle_t,
        key: &Key,
        at: &Addresses,
        precision: Precision,
    ) -> Result<Prepared, CublasError> {
        let Product { m, n, k, a, b, leading_c, factors, result: number, .. } = key.product;
        let operation = Operation::new(&key.product, precision)?;
        operation.point(key.product.after, at)?;
        let (stored_a, stored_b) = (stored(a, [m, k]), stored(b, [k, n]));
        let (a, b) = (Layout::new(factors, stored_a, a.leading)?, Layout::new(factors, stored_b, b.leading)?);
        let (c, preference) = (Layout::new(number, [m, n], leading_c)?, Preference::new(key.alignment)?);
        // SAFETY: all of them were just made.
        let found = unsafe {
            result::get_matmul_algo_heuristic(handle, operation.raw, a.0, b.0, c.0, c.0, preference.0)
        }?;
        Ok(Prepared { operation, a, b, c, algorithm: found.algo })
    }
}

/// A description of what is computed.
struct Operation {
    raw: sys::cublasLtMatmulDesc_t,
}

impl Operation {
    fn new(product: &Product, precision: Precision) -> Result<Operation, CublasError> {
        use sys::cublasLtEpilogue_t as Epilogue;
        use sys::cublasLtMatmulDescAttributes_t::{
            CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUBLASLT_MATMUL_DESC_EPILOGUE,
            CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB,
        };
        let compute = match precision {
            // Strict: f32 that is not cut to TF32. Factors in bfloat16 need no cutting.
            Precision::Fp32 | Precision::Bf16 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Precision::Tf32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        };
        let raw = result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?;
        let operation = Operation { raw };
        // CUBLAS_OP_N and CUBLAS_OP_T.
        operation.set(CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(product.a.transposed))?;
        operation.set(CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(product.b.transposed))?;
        let epilogue = match product.after {
            After::Nothing => return Ok(operation),
            After::Bias | After::BiasAndMatrix => Epilogue::CUBLASLT_EPILOGUE_BIAS,
            After::BiasGelu { keeps: false } => Epilogue::CUBLASLT_EPILOGUE_GELU_BIAS,
            After::BiasGelu { keeps: true } => Epilogue::CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
            After::GeluSlope => Epilogue::CUBLASLT_EPILOGUE_DGELU,
        };
        operation.set(CUBLASLT_MATMUL_DESC_EPILOGUE, &(epilogue as u32))?;
        if product.after != After::GeluSlope {
            operation.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &(data_type(product.result) as i32))?;
        }
        if matches!(product.after, After::GeluSlope | After::BiasGelu { keeps: true }) {
            operation.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &(product.m as i64))?;
        }
        Ok(operation)
    }

    /// Says where that lies which follows the product.
    fn point(&self, after: After, at: &Addresses) -> Result<(), CublasError> {
        use sys::cublasLtMatmulDescAttributes_t::{
            CUBLASLT_MATMUL_DESC_BIAS_POINTER, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
        };
        if !matches!(after, After::Nothing | After::GeluSlope) {
            self.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at.bias)?;
        }
        if matches!(after, After::GeluSlope | After::BiasGelu { keeps: true }) {
            self.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &at.before)?;
        }
        Ok(())
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<(), CublasError> {
        // SAFETY: the callers' types are those that cuBLASLt documents for the attribute.
        unsafe {
            result::set_matmul_desc_attribute(self.raw, attribute, (&raw const *value).cast(), size_of::<T>())
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: it was made once. A failure leaves nothing to do; so for the two below.
        let _ = unsafe { result::destroy_matmul_desc(self.raw) };
    }
}

fn data_type(number: Number) -> sys::cudaDataType_t {
    match number {
        Number::F32 => sys::cudaDataType_t::CUDA_R_32F,
        Number::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
    }
}

/// A description of a matrix.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(number: Number, [rows, columns]: [usize; 2], leading: usize) -> Result<Layout, CublasError> {
        result::create_matrix_layout(data_type(number), rows as u64, columns as u64, leading as i64)
            .map(Layout)
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

//! Devices that are there or not.

use engine::{EngineError, contract::tiny_shape};
use engine_burn::{Device, build};

#[test]
fn an_absent_device_is_refused_and_never_replaced() {
    match build(&tiny_shape(), Device::Cuda) {
        Ok(engine) => assert!(engine.info().device.starts_with("cuda:0"), "never the CPU in its place"),
        Err(EngineError::DeviceUnavailable { device, reason }) => {
            assert_eq!(device, "cuda");
            let built_in = cfg!(feature = "burn-cuda");
            assert!(built_in || reason.contains("rebuild with `--features burn-cuda`"), "{reason}");
        }
        Err(other) => panic!("an absent device is no reason for {other:?}"),
    }
}

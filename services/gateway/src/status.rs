//! Errors, from the contracts' form to gRPC's and back. The codes are the same set.

use berth_model::{Code, Status};

/// As gRPC says it.
#[must_use]
pub fn to_grpc(status: Status) -> tonic::Status {
    tonic::Status::new(tonic::Code::from_i32(status.code.number()), status.message)
}

/// As the contracts say it.
#[must_use]
pub fn from_grpc(status: &tonic::Status) -> Status {
    Status::new(Code::from_number(status.code() as i32), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_words_survive() {
        for status in [Status::not_found("a"), Status::unavailable("b"), Status::data_loss("c"), Status::cancelled("d")]
        {
            assert_eq!(from_grpc(&to_grpc(status.clone())), status);
        }
    }
}

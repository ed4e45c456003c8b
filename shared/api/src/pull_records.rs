//! The contract of the records of pulls, which the metadata service keeps for transfer.

use berth_wire::metadata as msg;

use crate::contract::contract;

contract! {
    /// See `proto/berth/metadata/v1/pulls.proto`.
    trait PullRecords, client PullRecordsClient, router serve {
        /// Begins a term as the leading transfer service.
        begin_term(msg::BeginTermRequest);
        /// Says that the leader is there.
        hold_term(msg::HoldTermRequest);
        /// Records a pull and its lease.
        create_pull(msg::CreatePullRequest);
        /// Takes a pull up again.
        resume_pull(msg::ResumePullRequest);
        /// Changes a record.
        update_pull(msg::UpdatePullRequest);
        /// Records the end of a pull.
        end_pull(msg::EndPullRequest);
        /// One record.
        get_pull_record(msg::GetPullRecordRequest);
        /// A page of records.
        list_pull_records(msg::ListPullRecordsRequest);
    }
}

//! One suite for the bus, run in every home: in-process and over a real nats-server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails should say where"
)]

mod calls;
mod cluster;
mod dead;
mod events;
mod failures;
mod homes;
mod jobs;
mod messages;
mod nats_only;
mod papers;
mod permitted;
mod proxy;
mod security;
mod together;

/// Runs each function of a module in each home.
macro_rules! in_every_home {
    ($($module:ident: $($test:ident),* $(,)?);* $(;)?) => {
        mod in_process {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::$module::$test(crate::homes::Home::in_process()).await;
                }
            )*)*
        }
        mod over_nats {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::$module::$test(crate::homes::Home::nats()).await;
                }
            )*)*
        }
    };
}

in_every_home! {
    calls: a_call_is_answered, an_error_keeps_its_code_and_message, a_panic_is_internal, nobody_answers, a_service_that_appears_is_waited_for,
        too_large_requests_and_replies_are_refused, replicas_share, many_at_once, long_polls_do_not_starve_quick_calls, a_handler_outlives_its_caller, a_handler_can_know_that_its_caller_left,
        a_slow_handler_misses_the_deadline, a_stopped_replica_hands_calls_over, a_long_poll_does_not_hold_up_the_end;
    jobs: a_job_is_done_with_progress, a_passing_error_is_retried, giving_up_rejects, another_error_rejects, a_panic_rejects, dropping_the_handle_cancels, a_deaf_handler_is_dropped_after_cancel,
        a_waiting_job_is_withdrawn, concurrency_is_bounded, workers_share, a_worker_that_stops_hands_its_job_over, without_workers_it_ends, a_busy_worker_is_waited_for,
        stopping_in_order_finishes_what_runs, done_stays_done, queues_say_how_long_the_first_has_waited;
    dead: what_is_given_up_is_kept_and_can_be_put_back, answers_are_not_kept;
    events: filters_decide, repeated_ids_are_seen_once, events_keep_headers_and_order, bad_subjects_are_refused, two_buses_are_two;
}

//! `berth.v1.Gc`: runs as streams, made from long polls.

use std::{pin::Pin, sync::Arc};

use berth_api::gc::Gc as Contract;
use berth_wire::{
    gateway::gc_server::Gc,
    gc::{MeasureDiskReply, MeasureDiskRequest, ReadRunReply, ReadRunRequest, StartRunRequest, WhyReply, WhyRequest},
    metadata::{MeasureImagesReply, MeasureImagesRequest},
};
use futures::Stream;
use tonic::{Request, Response, Status};

use crate::{Backend, pass, stopping::until_stopping, to_grpc};

/// How long one poll waits.
const WAIT_MS: u32 = 10_000;

#[tonic::async_trait]
impl Gc for Backend {
    type RunStream = Pin<Box<dyn Stream<Item = Result<ReadRunReply, Status>> + Send>>;

    async fn run(&self, request: Request<StartRunRequest>) -> Result<Response<Self::RunStream>, Status> {
        let run = self.gc.start_run(request.into_inner()).await.map_err(to_grpc)?;
        let run = follow(Arc::clone(&self.gc), run.run_id);
        Ok(Response::new(Box::pin(until_stopping(self, run))))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyReply>, Status> {
        pass!(gc.why, self, request)
    }

    async fn measure_disk(&self, request: Request<MeasureDiskRequest>) -> Result<Response<MeasureDiskReply>, Status> {
        pass!(gc.measure_disk, self, request)
    }

    async fn measure_images(
        &self,
        request: Request<MeasureImagesRequest>,
    ) -> Result<Response<MeasureImagesReply>, Status> {
        pass!(metadata.measure_images, self, request)
    }
}

fn follow(gc: Arc<dyn Contract>, run_id: String) -> impl Stream<Item = Result<ReadRunReply, Status>> + Send {
    futures::stream::try_unfold((gc, 0, false), move |(gc, after, over)| {
        let run_id = run_id.clone();
        async move {
            if over {
                return Ok(None);
            }
            let reply = gc.read_run(ReadRunRequest { run_id, after, wait_ms: WAIT_MS }).await.map_err(to_grpc)?;
            let (after, over) = (after + reply.items.len() as u64, reply.over);
            Ok(Some((reply, (gc, after, over))))
        }
    })
}

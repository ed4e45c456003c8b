//! Calls about sizes.

use std::{ops::Bound, sync::Arc};

use berth_api::measure::Measuring;
use berth_model::Status;
use berth_wire::{metadata as msg, types};

use crate::{
    collection::{Totals, of_images},
    page::Page,
    store::Store,
};

pub(super) async fn images(
    store: &Store,
    request: msg::MeasureImagesRequest,
) -> Result<msg::MeasureImagesReply, Status> {
    store
        .read(move |view| {
            let (measures, totals) = of_images(view, types::Time::now())?;
            let Totals { images, content, snapshots } = totals;
            let mut page = Page::new(request.limit);
            let after = Bound::Excluded((request.after_namespace, request.after_name));
            for (_, measure) in measures.range((after, Bound::Unbounded)) {
                if !page.push(measure.clone()) {
                    break;
                }
            }
            let (found, more) = page.finish();
            Ok(msg::MeasureImagesReply {
                images: found,
                more,
                content_total: content,
                snapshots_total: snapshots,
                images_total: images,
            })
        })
        .await
}

pub(super) async fn records(store: &Arc<Store>) -> Result<msg::MeasureRecordsReply, Status> {
    let path = store.path().to_owned();
    let database = berth_api::blocking(move || Measuring::default().tree(&path)).await?;
    Ok(msg::MeasureRecordsReply { database: Some(database) })
}

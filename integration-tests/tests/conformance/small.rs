//! `berth.v1.Content.ReadSmall`: many small blobs in one answer.

use berth_model::Code;
use berth_wire::gateway::{ReadSmallReply, ReadSmallRequest, content_client::ContentClient};

use crate::{
    home::{Home, NS, digest, refused},
    writer::put,
};

async fn read(home: &Home, digests: &[String]) -> Result<ReadSmallReply, tonic::Status> {
    let request = ReadSmallRequest { namespace: NS.into(), digests: digests.to_vec() };
    let mut client = ContentClient::new(home.channel.clone()).max_decoding_message_size(8 << 20);
    Ok(client.read_small(request).await?.into_inner())
}

async fn what_is_small_and_sound_is_read(home: Home) {
    const SMALL: usize = 64 << 10;
    let mut kept = Vec::new();
    for (name, bytes) in [("a", vec![]), ("b", b"some bytes".to_vec()), ("c", vec![3; SMALL])] {
        kept.push((put(&home, NS, name, &bytes).await, bytes));
    }
    kept.sort();
    let large = put(&home, NS, "large", &vec![1; SMALL + 1]).await;
    let damaged = put(&home, NS, "damaged", b"to be damaged").await;
    let file = home.blob_file(&damaged);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, b"that is done!").unwrap();
    let gone = put(&home, NS, "gone", b"to be gone").await;
    std::fs::remove_file(home.blob_file(&gone)).unwrap();
    let others = put(&home, "other", "x", b"another namespace's").await;

    let mut asked: Vec<String> = kept.iter().map(|(digest, _)| digest.clone()).collect();
    asked.extend([large, damaged, gone, others.clone(), digest(b"nobody's"), asked[0].clone()]);
    let mut told = read(&home, &asked).await.unwrap();
    told.blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
    told.absent.sort();
    let mut absent = vec![others, digest(b"nobody's")];
    absent.sort();
    let blobs: Vec<_> = told.blobs.into_iter().map(|blob| (blob.digest, blob.data)).collect();
    assert_eq!(blobs, kept);
    assert_eq!(told.absent, absent);
}

async fn an_answer_is_bounded(home: Home) {
    const MOST: usize = 4 << 20;
    let mut all = Vec::new();
    for n in 0..70_u8 {
        all.push(put(&home, NS, &format!("blob-{n}"), &vec![n; 64 << 10]).await);
    }
    let told = read(&home, &all).await.unwrap();
    assert_eq!(told.blobs.iter().map(|blob| blob.data.len()).sum::<usize>(), MOST);
    assert_eq!(told.absent, Vec::<String>::new());
    refused(read(&home, &vec![all[0].clone(); 257]).await, Code::InvalidArgument, "257");
    refused(read(&home, &["odd".to_owned()]).await, Code::InvalidArgument, "odd");
}

crate::in_every_home! {
    what_is_small_and_sound_is_read
    an_answer_is_bounded
}

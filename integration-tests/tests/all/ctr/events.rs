//! `ctr events`.

use std::time::Duration;

use anyhow::Result;
use berth_integration_tests::{ctr, image::push};
use berth_testing::{
    docker_registry::DockerRegistry,
    image::{ImageBuilder, Layer},
    running::Running,
    shape::Stage,
    wait::wait_until,
};

with_a_daemon! {
    what_happens_is_told_in_its_order,
}

async fn what_happens_is_told_in_its_order(stage: Stage) -> Result<()> {
    let events = Running::start(ctr::command(&stage, ["events"]))?;
    // It is not told what was before it began to listen; so something happens until it does.
    let mut probes = 0;
    let heard = || {
        probes += 1;
        ctr::ok(&stage, ["namespaces", "create", &format!("probe-{probes}")]).unwrap();
        events.output().contains("/namespaces/create")
    };
    wait_until("the first event", Duration::from_secs(60), heard, || events.output());

    let registry = DockerRegistry::start()?;
    let image = ImageBuilder::new().layer(Layer::new().file("a", b"a")).build();
    let name = push(&image, &registry, "app", "v1").await?;
    ctr::ok(&stage, ["content", "fetch", "--plain-http", &name])?;
    ctr::ok(&stage, ["images", "label", &name, "k=v"])?;
    ctr::ok(&stage, ["images", "rm", &name])?;
    ctr::ok(&stage, ["content", "rm", &image.config.digest.to_string()])?;
    ctr::ok(&stage, ["-n", "other", "leases", "create"])?;
    ctr::ok(&stage, ["namespaces", "label", "other", "a=b"])?;
    ctr::ok(&stage, ["namespaces", "rm", "other"])?;
    let _last = events.wait_for_line("/namespaces/delete");
    let output = events.output();
    let config = image.config.digest.to_string();
    // The collector may tell of blobs that it removed.
    let ours = |line: &&str| !line.contains("probe-") && (!line.contains("/content/delete") || line.contains(&config));
    let told: Vec<&str> = output.lines().filter(|line| line.contains(" UTC ")).filter(ours).collect();
    let expected = [
        format!("default /images/create {{\"name\":\"{name}\"}}"),
        format!("default /images/update {{\"name\":\"{name}\",\"labels\":{{\"k\":\"v\"}}}}"),
        format!("default /images/delete {{\"name\":\"{name}\"}}"),
        format!("default /content/delete {{\"digest\":\"{}\"}}", image.config.digest),
        "other /namespaces/update {\"name\":\"other\",\"labels\":{\"a\":\"b\"}}".to_owned(),
        "other /namespaces/delete {\"name\":\"other\"}".to_owned(),
    ];
    assert_eq!(told.len(), expected.len(), "{output}");
    for (told, expected) in told.iter().zip(&expected) {
        assert!(told.ends_with(expected), "{told}\n{expected}");
    }
    Ok(())
}

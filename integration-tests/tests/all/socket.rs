//! The daemon's socket: who may talk to it, and one that systemd made and handed over.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    process::Command,
};

use anyhow::Result;
use berth_integration_tests::ctr;
use berth_testing::{
    process::Server,
    running::Running,
    shape::{Shape, Stage},
    wait::wait_until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_has_the_mode_and_owner_it_was_told() -> Result<()> {
    let mut stage = Stage::start(Shape::Alone)?;
    let settings = stage.scratch().join("config.toml");
    fs::write(&settings, "[socket]\nmode = \"0600\"\ngroup = \"adm\"\n")?;
    let settings = settings.to_str().unwrap().to_owned();
    stage.serve("daemon", &["--config", &settings, "--socket-mode", "0666", "--socket-owner", "65534"])?;
    stage.wait_until_ready();
    let about = fs::metadata(stage.socket())?;
    assert!(about.file_type().is_socket());
    assert_eq!((about.mode() & 0o777, about.uid(), about.gid()), (0o666, 65534, 4), "flags over the file");
    for (flag, bad) in
        [("--socket-mode", "rw"), ("--socket-owner", "no such user"), ("--socket-group", "no such group")]
    {
        let mut second = stage.command(["serve", flag, bad]);
        second.arg("--address").arg(stage.scratch().join("second.sock"));
        let ended = Running::start(second)?.finish()?;
        assert!(ended.code > 0 && ended.stderr.contains(bad), "{flag}: {ended:?}");
    }
    Ok(())
}

/// What systemd does for a unit with a socket: it makes it, and starts the service with it as descriptor 3.
const HAND_OVER: &str = "\
import os, socket, sys
made = socket.socket(getattr(socket, sys.argv[1]), socket.SOCK_STREAM)
made.bind(sys.argv[2] if sys.argv[1] == 'AF_UNIX' else ('127.0.0.1', 0))
made.listen()
os.dup2(made.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[3], sys.argv[3:])
";

fn handed_over(stage: &Stage, family: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", HAND_OVER, family]).arg(stage.socket());
    let berth = stage.command(["serve"]);
    command.arg(berth.get_program()).args(berth.get_args());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_systemd_made_is_served() -> Result<()> {
    let mut stage = Stage::start(Shape::Alone)?;
    let log = stage.scratch().join("handed-over.log");
    let mut server = Server::start("berth", &handed_over(&stage, "AF_UNIX"), &log)?;
    stage.wait_until_ready();
    assert!(ctr::ok(&stage, ["version"])?.contains("Server:"));
    assert!(server.log().contains("handed over"), "{}", server.log());
    assert!(server.stop()?.success());
    assert!(stage.socket().exists(), "it is not ours to remove");
    drop(server);
    fs::remove_file(stage.socket())?;

    let log = stage.scratch().join("wrong.log");
    let mut server = Server::start("berth", &handed_over(&stage, "AF_INET"), &log)?;
    let mut code = None;
    wait_until(
        "a refusal",
        std::time::Duration::from_secs(30),
        || {
            code = server.ended();
            code.is_some()
        },
        || "it runs",
    );
    assert!(!code.unwrap().success() && server.log().contains("ListenStream"), "{}", server.log());
    Ok(())
}

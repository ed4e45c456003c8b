//! The page in a browser: a pull is seen as it runs and ends, one that fails says why, and nothing goes wrong on the way.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use berth_testing::{
    berth::Berth,
    hostile::{Fault, Faults, HostileRegistry},
    image::{Compression, ImageBuilder, Layer},
    port::Port,
    process::Server,
    shape::{Shape, Stage},
};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

/// One tab of Chromium, driven by its DevTools protocol.
struct Browser {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    next: u64,
    /// What went wrong in the page, or was written to its console.
    console: Vec<String>,
    _chromium: Server,
    _port: Port,
}

impl Browser {
    async fn start(scratch: &Path) -> Result<Self> {
        // Nothing here is encrypted, but the client wants to know how it would be. Somebody else may have said it.
        let _installed_already = rustls::crypto::ring::default_provider().install_default();
        let port = Port::reserve()?;
        let mut command = Command::new("chromium");
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .arg(format!("--remote-debugging-port={}", port.number()))
            .arg(format!("--user-data-dir={}", scratch.join("chromium").display()))
            .arg("about:blank");
        let mut chromium = Server::start("chromium", &command, &scratch.join("chromium.log"))?;
        chromium.wait_for_port(port.number())?;
        let tabs: Vec<Value> =
            reqwest::get(format!("http://127.0.0.1:{}/json/list", port.number())).await?.json().await?;
        let tab = tabs.iter().find(|tab| tab["type"] == "page").context("no tab")?;
        let address = tab["webSocketDebuggerUrl"].as_str().context("no address of the tab")?;
        let (socket, _) = tokio_tungstenite::connect_async(address).await?;
        let mut browser = Self { socket, next: 0, console: Vec::new(), _chromium: chromium, _port: port };
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            browser.say(domain, json!({})).await?;
        }
        Ok(browser)
    }

    /// Sends a command and waits for its answer.
    async fn say(&mut self, method: &str, params: Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        self.socket.send(Message::text(json!({ "id": id, "method": method, "params": params }).to_string())).await?;
        loop {
            let message = tokio::time::timeout(Duration::from_secs(30), self.socket.next()).await?;
            let text = message.context("the browser is gone")??.into_text()?;
            let told: Value = serde_json::from_str(&text)?;
            match told["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.console.push(told["params"].to_string()),
                Some("Runtime.consoleAPICalled") => self.console.push(told["params"]["args"].to_string()),
                Some("Log.entryAdded") => self.console.push(told["params"]["entry"].to_string()),
                _ => {}
            }
            if told["id"] == id {
                if !told["error"].is_null() {
                    bail!("{method}: {}", told["error"]);
                }
                return Ok(told["result"].clone());
            }
        }
    }

    async fn open(&mut self, url: &str) -> Result<()> {
        self.say("Page.navigate", json!({ "url": url })).await.map(drop)
    }

    /// The value of an expression in the page.
    async fn eval(&mut self, expression: &str) -> Result<Value> {
        let answer = self.say("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true })).await?;
        Ok(answer["result"]["value"].clone())
    }

    /// What a person sees.
    async fn text(&mut self) -> Result<String> {
        Ok(self.eval("document.body ? document.body.innerText : ''").await?.as_str().unwrap_or_default().to_owned())
    }

    /// Looks until an expression is true; shows what was seen if it never is.
    async fn until(&mut self, what: &str, expression: &str) -> Result<()> {
        let begun = std::time::Instant::now();
        while self.eval(expression).await? != true {
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("never seen: {what}\n{}\nconsole: {:?}", self.text().await?, self.console);
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_are_seen_as_they_run() -> Result<()> {
    let port = Port::reserve()?;
    let address = format!("127.0.0.1:{}", port.number());
    let mut berth = Berth::new()?;
    berth.set("BERTH_HTTP", &address);
    let stage = Stage::start_on(Shape::Daemon, berth)?;
    let sizes = [3 << 20, 1 << 20, 600_000, 200_000, 50_000];
    let layers = sizes.into_iter().enumerate().fold(ImageBuilder::new(), |image, (n, size)| {
        image.layer_as(Compression::None, Layer::new().random_file(&format!("f{n}"), size, n as u64))
    });
    let image = layers.layer(Layer::new().file("<b onmouseover=alert(1)>", b"x")).build();
    let slowly = Fault::Trickle(20_000, Duration::from_millis(20));
    let registry = HostileRegistry::start(Faults::none().always("/blobs/", slowly)).await;
    registry.add_image("app", "v1", &image);
    let reference = registry.reference("app", "v1");

    let mut browser = Browser::start(stage.scratch()).await?;
    browser.open(&format!("http://{address}/")).await?;
    browser.until("that it is live", "document.getElementById('connection')?.textContent === 'live'").await?;
    browser.until("that there are none", "!document.querySelector('#view-pulls .empty').hidden").await?;

    let pull = stage.spawn(["pull", "--plain-http", "--quiet", &reference])?;
    browser.until("the pull on its way", "document.querySelector('#list-pulls progress')?.value > 0").await?;
    browser.eval("document.querySelector('#list-pulls a').click()").await?;
    browser.until("a layer on its way", "[...document.querySelectorAll('#list-items progress')].some((bar) => bar.value > 0 && bar.value < bar.max)").await?;
    assert_eq!(pull.finish()?.code, 0);
    browser.until("the end", "document.getElementById('pull-state').textContent.startsWith('done')").await?;
    browser
        .until("the verdict", "document.getElementById('pull-verdict').textContent.includes('waiting for bytes')")
        .await?;
    browser.until("the waterfall", "document.querySelectorAll('#pull-waterfall rect').length >= 4").await?;

    // For the README: BERTH_SCREENSHOT=docs/page.png
    if let Some(path) = std::env::var_os("BERTH_SCREENSHOT") {
        let shot = browser.say("Page.captureScreenshot", json!({ "format": "png" })).await?;
        std::fs::write(
            path,
            base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap_or_default())?,
        )?;
    }

    // One that fails says why.
    let missing = registry.reference("app", "gone");
    stage.fails(["pull", "--plain-http", "--quiet", &missing])?;
    browser.eval("location.hash = '#pulls'").await?;
    browser
        .until(
            "the failure",
            "document.querySelector('#list-pulls .soft.bad')?.textContent.includes('does not exist') ?? false",
        )
        .await?;
    for (view, expression) in [
        ("workers", "document.querySelectorAll('#list-workers progress').length >= 2"),
        ("images", "document.querySelector('#list-images .name')?.textContent.endsWith('app:v1') ?? false"),
        ("disk", "document.querySelectorAll('#list-disk tr').length === 4"),
        (
            "events",
            "[...document.querySelectorAll('#list-events .name')].some((topic) => topic.textContent === '/images/create')",
        ),
    ] {
        browser.eval(&format!("location.hash = '#{view}'")).await?;
        browser.until(view, expression).await?;
        let current = browser.eval("document.querySelector('nav a[aria-current]').hash").await?;
        assert_eq!(current, format!("#{view}"));
    }
    // On a phone nothing is wider than the screen.
    browser
        .say(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": true }),
        )
        .await?;
    for view in ["pulls", "workers", "images", "disk", "events"] {
        browser.eval(&format!("location.hash = '#{view}'")).await?;
        browser.until(view, "document.documentElement.scrollWidth <= 360").await?;
    }
    assert_eq!(browser.console, [""; 0], "nothing goes wrong in the page");

    // Another web site that has its name lead here gets nothing.
    let client = reqwest::Client::new();
    let answer = client.get(format!("http://{address}/api/v1/images")).header("host", "evil.example").send().await?;
    assert_eq!(answer.status(), 421);
    let policy = client.get(format!("http://{address}/")).send().await?;
    assert!(policy.headers().contains_key("content-security-policy"));
    let unknown = client.get(format!("http://{address}/api/v1/pulls/none")).send().await?;
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.json::<Value>().await?["error"]["code"], "not_found");
    Ok(())
}

//! Chromium without a screen, from Debian's packages in a folder of their own, steered by its driver (WebDriver over
//! HTTP on loopback).

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cluster::repository;
use crate::debian::{self, Packages};
use crate::process::{command, wait_until};

/// Its window, and so the size of its pictures.
const WINDOW: &str = "1024,740";

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// A browser; it ends with this value.
pub(super) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Gets Chromium, if it is not there, and starts it.
    pub(super) fn start() -> Result<Self> {
        let root = repository()?.join("target/debian/chromium");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let packages = Packages {
            with_dependencies: names(&[
                "dash",
                "coreutils",
                "chromium",
                "chromium-driver",
                "fonts-dejavu-core",
            ]),
            alone: Vec::new(),
            // It draws by itself.
            without: names(&["libllvm15", "libgl1-mesa-dri", "libz3-4"]),
        };
        debian::unpack(&packages, &root)?;
        for folder in ["dev", "proc", "sys", "tmp", "root"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        // The driver finds its browser at localhost.
        fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut browser = Self { driver: driver(&root, port)?, port, session: String::new() };
        wait_until("the browser's driver", Duration::from_secs(60), || {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        let options = json!({
            "binary": "/usr/lib/chromium/chromium",
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                format!("--window-size={WINDOW}"), "--hide-scrollbars"],
        });
        // Whoever made the certificate of a session is nobody that browsers know.
        let wanted = json!({"alwaysMatch": {"acceptInsecureCerts": true, "goog:chromeOptions": options}});
        let begun = browser.ask("POST", "/session", &json!({"capabilities": wanted}))?;
        browser.session = begun["sessionId"].as_str().context("the browser has no session")?.to_owned();
        Ok(browser)
    }

    /// Opens a page.
    pub(super) fn open(&self, url: &str) -> Result<()> {
        self.ask("POST", &self.path("url"), &json!({"url": url})).map(drop)
    }

    /// Waits until an expression of JavaScript is true on the page.
    pub(super) fn until(&self, what: &str, expression: &str) -> Result<()> {
        let script = json!({"script": format!("return {expression}"), "args": []});
        wait_until(what, Duration::from_secs(60), || {
            Ok(self.ask("POST", &self.path("execute/sync"), &script)? == true)
        })
    }

    /// Makes a picture of the page.
    pub(super) fn picture(&self, file: &Path) -> Result<()> {
        let picture = self.ask("GET", &self.path("screenshot"), &Value::Null)?;
        let text = picture.as_str().context("the browser made no picture")?;
        let mut decode = command("base64", ["--decode"]);
        let mut decode = decode.stdin(Stdio::piped()).stdout(fs::File::create(file)?).spawn()?;
        decode.stdin.take().context("it reads")?.write_all(text.as_bytes())?;
        match decode.wait()?.success() {
            true => Ok(()),
            false => bail!("the browser's picture cannot be read"),
        }
    }

    fn path(&self, what: &str) -> String {
        format!("/session/{}/{what}", self.session)
    }

    /// A command of WebDriver (<https://www.w3.org/TR/webdriver2/>); returns its `value`.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(ANSWER))?;
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let (head, text) = read(connection).with_context(|| format!("no answer to {method} {path}"))?;
        let text = text.as_str();
        let value = serde_json::from_str::<Value>(text)?["value"].take();
        match head.starts_with("HTTP/1.1 200") {
            true => Ok(value),
            false => bail!("the browser refuses {path}: {}", value["message"].as_str().unwrap_or(text)),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Head and body of an answer. The driver keeps its connections, so that the length says where one ends.
fn read(connection: TcpStream) -> Result<(String, String)> {
    let mut answer = BufReader::new(connection);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        answer.read_line(&mut head)?;
        match head[start..].trim_end() {
            "" => break,
            line => {
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse()?;
                }
            }
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body)?;
    Ok((head, String::from_utf8(body)?))
}

/// Starts the driver in its folder, with processes and mounts of its own, which end with it.
fn driver(root: &Path, port: u16) -> Result<Child> {
    let root = root.display();
    let script = format!(
        "mount --rbind /dev {root}/dev && mount --rbind /sys {root}/sys && mount -t proc proc {root}/proc && \
         mount -t tmpfs tmpfs {root}/tmp && \
         exec chroot {root} /usr/bin/chromedriver --port={port}"
    );
    let mut unshare = command("unshare", ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    unshare.env("HOME", "/tmp").env_remove("DISPLAY");
    unshare.spawn().context("cannot start the browser's driver")
}

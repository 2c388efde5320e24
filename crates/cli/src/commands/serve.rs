// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `serve`: opens a volume and offers it over NBD until SIGTERM or SIGINT.
//!
//! Order of the start: sockets that were inherited or named, so that a place that cannot be had is
//! refused before a device is touched; devices, the volume, the sockets called after it, then
//! `listening URI`. Order of the end: no new clients, requests under way answered, the volume
//! flushed and closed, whoever asked for it told, the control socket removed.

use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use dmremap_core::message::MarkKind;
use dmremap_engine::{Device, Next, OpenOptions, SectorRun, Volume, VolumeError, VolumeOptions};
use dmremap_format::State;
use dmremap_format::identity::Judgement;
use dmremap_nbd::{Config as NbdConfig, Listener, Server, inherited_listeners};

use crate::areas;
use crate::args::{AcceptMain, Force, Serve};
use crate::at_rest;
use crate::config;
use crate::context::Context;
use crate::control::server::Socket;
use crate::escape::escaped_bytes;
use crate::failure::{Class, Failure, Outcome};
use crate::marking::Plan;
use crate::remedy::{self, again_with};
use crate::report::uuid_text;
use crate::serving::closing::{Closing, End};
use crate::serving::notify::Manager;
use crate::serving::{Answering, Exported, Log};
use crate::survey::identify;
use crate::{output, signals, spec, users};

/// How long clients' requests are waited for at the end: what recovery holds has this limit itself.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// How long somebody who asked for the end is waited for to fetch the answer.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// `serve`
pub fn serve(context: &Context, args: &Serve) -> Outcome<ExitCode> {
    let bad = copied(args)?;
    // First of all: what was inherited is told by its number, which must not be anybody else's.
    let sockets = Sockets::named(args)?;
    let (ends, ended) = channel();
    let asked = ends.clone();
    signals::on_stop(move || _ = asked.send(End::Asked))?;
    let spare = open(args, &args.spare)?;
    let main_spec = main_spec(context, args, spare.as_ref())?;
    spec::apart(&main_spec, &args.spare)?;
    let main = open(args, &main_spec)?;
    let options = VolumeOptions {
        read_only: args.read_only,
        force_quorum: args.force.contains(&Force::Quorum),
        force_in_use: args.force.contains(&Force::InUse),
        accept_main: args.accept_main == Some(AcceptMain::Same),
        ..VolumeOptions::default()
    };
    let manager = Manager::default();
    let (log, events) = Log::start(manager.clone())?;
    let block_sectors = main.logical_block() / 512;
    let on_event = move |event| {
        let _ = events.send((event, block_sectors));
    };
    let opened = match bad {
        None => Volume::open(main, spare, &options, on_event),
        Some(bad) => Volume::open_copy(main, spare, &options, &bad, on_event),
    };
    let volume = opened.map_err(|error| refused(args, error))?;
    let volume = Arc::new(volume);
    if volume.info().state == State::Restored {
        tracing::warn!("restored from a dump: served read-only; copy the data off");
    }
    if volume.is_writable() {
        remember(context, args, &main_spec, &volume)?;
    }
    let served = offer(context, args, &volume, sockets, (ends, ended), &manager);
    if let Ok(served) = &served {
        served.closing.devices();
    }
    let clean = volume.close() || !volume.is_writable();
    if let Ok(served) = &served {
        served.closing.closed(clean, LAST_WORDS);
        served.control.finish_answers(LAST_WORDS);
    }
    drop(volume);
    log.finish();
    served?;
    if !clean {
        let what = "the volume could not be closed cleanly; the next open settles what is left";
        return Err(Failure::new(Class::Internal, what)
            .with_next(format!("dmremap serve --spare {}", spec::word(&args.spare))));
    }
    Ok(ExitCode::SUCCESS)
}

/// The bad areas of a main that is said to be a copy; `None` if it is not. They are counted against
/// the table before anything is written.
fn copied(args: &Serve) -> Outcome<Option<Vec<SectorRun>>> {
    let wrong = |what: &str| {
        let next = "dmremap serve --spare DEV --main DEV --accept-main=copy --mapfile FILE";
        Err(Failure::new(Class::Usage, what).with_next(next))
    };
    match (args.accept_main, &args.mapfile) {
        (Some(AcceptMain::Copy), None) => wrong(
            "--accept-main=copy: what the copy lacks reads as zeros there, with success; give the \
             map of the copying with --mapfile, or --mapfile none if everything was copied",
        ),
        (Some(AcceptMain::Copy), Some(_))
            if args.read_only || args.force.contains(&Force::Quorum) =>
        {
            wrong(
                "--accept-main=copy: what the copy lacks has to be written down, so not read-only",
            )
        }
        (Some(AcceptMain::Copy), Some(file)) if file.as_os_str() == "none" => Ok(Some(Vec::new())),
        (Some(AcceptMain::Copy), Some(file)) => {
            let view = at_rest::view(&args.spare, false)?;
            let bad = areas::read(file, areas::Form::Mapfile, areas::MainIs::Copy, &view)?;
            let plan = Plan::new(&view, MarkKind::Gone, bad)?;
            tracing::info!("{}", plan.words());
            Ok(Some(plan.runs))
        }
        (_, Some(_)) => wrong("--mapfile is for --accept-main=copy: the same disk lacks nothing"),
        (_, None) => Ok(None),
    }
}

/// The command that names main.
fn with_main(args: &Serve) -> String {
    format!("dmremap serve --spare {} --main DEV", spec::word(&args.spare))
}

/// A refusal, with the command to be typed where main was the reason.
fn refused(args: &Serve, error: VolumeError) -> Failure {
    match &error {
        VolumeError::Main { judgement: Judgement::Ask(_), .. } => error.into(),
        // Without the map the next try would serve zeros for what the copy lacks.
        VolumeError::Main { judgement: Judgement::Alike, .. } => {
            let spare = spec::word(&args.spare);
            let next =
                format!("dmremap import --spare {spare} --format mapfile --main-is copy FILE");
            Failure::from(error).with_next(next)
        }
        VolumeError::Main { .. } => Failure::from(error).with_next(with_main(args)),
        _ => error.into(),
    }
}

fn open(args: &Serve, path: &str) -> Outcome<Arc<dyn Device>> {
    let options = OpenOptions {
        read_only: args.read_only || args.force.contains(&Force::Quorum),
        force_buffered: args.force.contains(&Force::Buffered),
        ..OpenOptions::default()
    };
    users::open(path, &options)
}

/// Main as given, or as the local configuration names it. What the spare says of it is shown.
fn main_spec(context: &Context, args: &Serve, spare: &dyn Device) -> Outcome<String> {
    if let Some(main) = &args.main {
        return Ok(main.clone());
    }
    let identified = identify(spare).map_err(|refusal| {
        let what = format!("{}: {refusal}", escaped_bytes(&args.spare));
        Failure::new(Class::Missing, what)
            .with_next(format!("dmremap examine {}", spec::word(&args.spare)))
    })?;
    if let Some(known) = context.config()?.find(&uuid_text(identified.volume))? {
        return Ok(known.main.to_string_lossy().into_owned());
    }
    let what = format!(
        "the local configuration does not know volume {} (\"{}\"); its main was last seen at {}",
        uuid_text(identified.volume),
        escaped_bytes(&identified.name),
        escaped_bytes(&identified.hint),
    );
    let next = format!("dmremap serve --spare {} --main DEV", spec::word(&args.spare));
    Err(Failure::new(Class::Missing, what).with_next(next))
}

/// An accepted open is noted in the local configuration. A folder that cannot be written is no
/// reason not to serve.
fn remember(context: &Context, args: &Serve, main: &str, volume: &Volume) -> Outcome<()> {
    let info = volume.info();
    let known = config::Volume {
        uuid: uuid_text(info.volume),
        name: info.name.clone(),
        main: spec::absolute(main).into(),
        spare: spec::absolute(&args.spare).into(),
    };
    let config = context.config()?;
    if config.find(&known.uuid)?.as_ref() != Some(&known) {
        if let Err(failure) = config.save(&known) {
            tracing::warn!("not noted in the local configuration: {}", failure.what);
        }
    }
    Ok(())
}

/// The name a volume is called by: its own, or its UUID.
fn called(volume: &Volume) -> String {
    match volume.info().name.as_str() {
        "" => uuid_text(volume.info().volume),
        name => name.to_owned(),
    }
}

/// The sockets that were inherited or named; others are called after the volume.
struct Sockets {
    nbd: Vec<Listener>,
    control: Option<Socket>,
}

impl Sockets {
    fn named(args: &Serve) -> Outcome<Sockets> {
        let mut nbd = if args.stdio { Vec::new() } else { inherited_listeners()? };
        if let Some(given) = &args.nbd {
            if !nbd.is_empty() {
                let what = format!(
                    "--nbd {}: sockets were handed over already (LISTEN_FDS)",
                    escaped_bytes(given)
                );
                let next = remedy::command(&Next::Without("--nbd"));
                return Err(Failure::new(Class::Usage, what).with_next(next));
            }
            nbd.push(listener(args, given)?);
        }
        let control = args.control.as_deref().map(Socket::bind).transpose()?;
        Ok(Sockets { nbd, control })
    }
}

/// What is left when the serving has ended: the control socket still answers.
struct Served {
    control: Socket,
    closing: Arc<Closing>,
}

/// Offers the volume until it ends.
fn offer(
    context: &Context,
    args: &Serve,
    volume: &Arc<Volume>,
    sockets: Sockets,
    (ends, ended): (Sender<End>, Receiver<End>),
    manager: &Manager,
) -> Outcome<Served> {
    let name = called(volume);
    let run_dir = context.run_dir()?;
    let Sockets { mut nbd, control } = sockets;
    if control.is_none() || (nbd.is_empty() && !args.stdio) {
        run_dir.prepare()?;
    }
    let control = control.map_or_else(|| Socket::bind(&run_dir.control(&name)), Ok)?;
    let mut config = NbdConfig::default();
    config.name.clone_from(&name);
    let server = Server::new(Arc::new(Exported(Arc::clone(volume))), config)?;
    let closing = Arc::new(Closing::new(ends.clone(), server.clone()));
    let answering = Answering { volume: Arc::clone(volume), closing: Arc::clone(&closing) };
    control.serve(Arc::new(answering))?;
    if args.stdio {
        serve_stdio(&server, ends)?;
    } else {
        if nbd.is_empty() {
            nbd.push(Listener::unix(&run_dir.nbd(&name))?);
        }
        for listener in nbd {
            let uri = listener.uri(&name);
            server.listen(listener)?;
            output::print(&format!("listening {uri}\n"))?;
        }
    }
    manager.ready(volume);
    if matches!(ended.recv(), Ok(End::Asked)) {
        tracing::info!("closing");
    }
    manager.stopping();
    closing.requests();
    let left = server.shutdown(LAST_ANSWERS);
    if left.abandoned > 0 {
        tracing::warn!("{} requests were still under way", left.abandoned);
    }
    Ok(Served { control, closing })
}

/// Listens where `--nbd` says.
fn listener(args: &Serve, given: &str) -> Outcome<Listener> {
    let wrong = |why: &str| {
        let what = format!("--nbd {}: {why}", escaped_bytes(given));
        Failure::new(Class::Usage, what).with_next(again_with("--nbd=unix:PATH"))
    };
    match given.strip_prefix("unix:") {
        Some("") => return Err(wrong("at which path?")),
        Some(path) => return Ok(Listener::unix(path.as_ref())?),
        None => {}
    }
    let Some(address) = given.strip_prefix("tcp:") else { return Err(wrong("what is that?")) };
    let found = address.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?;
    let address = found.into_iter().next().ok_or_else(|| wrong("no such address"))?;
    Ok(Listener::tcp(address, args.insecure_tcp)?)
}

/// Serves the one client on standard input and output, in a thread, so that a signal ends it too.
fn serve_stdio(server: &Server, ends: Sender<End>) -> Outcome<()> {
    use std::os::fd::AsFd;
    let failed = |error| Failure::new(Class::Internal, format!("standard input: {error}"));
    let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    let server = server.clone();
    let serve = move || {
        match server.serve_files(input, output) {
            Ok(end) => tracing::debug!("the client has left: {end:?}"),
            Err(error) => tracing::error!("{error}"),
        }
        let _ = ends.send(End::ClientLeft);
    };
    let spawned = std::thread::Builder::new().name("stdio".into()).spawn(serve);
    spawned.map(drop).map_err(failed)
}

//! `hyperrun inspect`: everything that is known about containers and images, as JSON of Docker's shape.

mod container;
mod host_config;
mod image;
mod network_settings;

use std::process::ExitCode;

use images::Store;
use runtime::Containers;
use runtime::network::Networks;
use serde::Serialize;
use serde_json::Value;

use crate::arguments::Common;
use crate::commands::network::networks;
use crate::commands::{containers, open_store, print};
use crate::failure::Failure;
use crate::listing;

/// Show everything about containers and images
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  hyperrun inspect --format '{{.State.Status}}' web
  hyperrun inspect --format '{{json .Config.Env}}' debian:bookworm")]
pub(crate) struct InspectArgs {
    /// Print what a template makes of each, or `json` for JSON in one line
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Look only for one kind: container or image
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,
    /// Show how much of the disk containers take
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// What a name may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Container,
    Image,
}

/// Something that was found.
#[derive(Serialize)]
#[serde(untagged)]
enum Inspection {
    Container(Box<container::Inspection>),
    Image(Box<image::Inspection>),
}

/// Prints what there is; a name that means nothing does not keep the rest from being shown.
pub(crate) fn run(args: &InspectArgs, common: &Common) -> Result<ExitCode, Failure> {
    show(args, args.kind, common)
}

/// The same for containers alone.
pub(crate) fn run_for_containers(args: &InspectArgs, common: &Common) -> Result<ExitCode, Failure> {
    show(args, Some(Kind::Container), common)
}

/// The same for images alone.
pub(crate) fn run_for_images(args: &InspectArgs, common: &Common) -> Result<ExitCode, Failure> {
    show(args, Some(Kind::Image), common)
}

fn show(args: &InspectArgs, kind: Option<Kind>, common: &Common) -> Result<ExitCode, Failure> {
    let (containers, store) = (containers(common)?, open_store(common)?);
    let networks = networks(common)?;
    let search = Search { kind, containers, networks, store, size: args.size };
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(text) => Some(listing::parse(text)?),
    };
    let (mut code, mut found, mut failures) = (ExitCode::SUCCESS, Vec::new(), Vec::new());
    for name in &args.names {
        match search.inspect(name) {
            Ok(inspection) => found.push(inspection),
            Err(failure) => failures.push(failure),
        }
    }
    match template {
        Some(template) => {
            for inspection in &found {
                let value = serde_json::to_value(inspection).map_err(std::io::Error::from)?;
                let value = with_absent(value);
                print(&(listing::render(&template, &value)? + "\n"))?;
            }
        }
        None if args.format.as_deref() == Some("json") => {
            let text = serde_json::to_string(&found).map_err(std::io::Error::from)?;
            print(&(text + "\n"))?;
        }
        None => print(&listing::indented(&found)?)?,
    }
    for failure in failures {
        code = failure.report();
    }
    Ok(code)
}

/// Templates may ask for what JSON leaves out where there is nothing, as Docker's does.
fn with_absent(mut value: Value) -> Value {
    for (part, field) in [("State", "Health"), ("Config", "ExposedPorts")] {
        if let Some(part) = value.get_mut(part).and_then(Value::as_object_mut) {
            part.entry(field).or_insert(Value::Null);
        }
    }
    value
}

/// Where names are looked for.
struct Search {
    kind: Option<Kind>,
    containers: Containers,
    networks: Networks,
    store: Store,
    size: bool,
}

impl Search {
    /// The container of this name, or the image.
    fn inspect(&self, name: &str) -> Result<Inspection, Failure> {
        match self.kind {
            Some(Kind::Container) => Ok(self.container(name)?),
            Some(Kind::Image) => self.image(name),
            None => match self.container(name) {
                Ok(found) => Ok(found),
                Err(runtime::Error::UnknownContainer { .. }) => self.either(name),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn container(&self, name: &str) -> Result<Inspection, runtime::Error> {
        let found = self.containers.find(name)?;
        let size_rw = self.size.then(|| found.written_bytes());
        Ok(Inspection::Container(Box::new(container::inspection(&found, &self.networks, size_rw))))
    }

    fn image(&self, name: &str) -> Result<Inspection, Failure> {
        Ok(Inspection::Image(Box::new(image::inspect(&self.store, name)?)))
    }

    /// The image of a name that is no container's.
    fn either(&self, name: &str) -> Result<Inspection, Failure> {
        if let Err(images::Error::UnknownImage { .. }) = self.store.find(name) {
            let hint = "`hyperrun ps -a` lists containers, `hyperrun images` images";
            return Err(Failure::new(&format!("no such object: {name}"), hint));
        }
        self.image(name)
    }
}

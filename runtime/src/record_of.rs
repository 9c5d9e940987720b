//! What is written down about a container that is created: what was asked for, and what was decided.

use images::{Image, ImageConfig};

use crate::containers::{Record, VERSION};
use crate::health::HealthCheck;
use crate::keeping::Keeping;
use crate::moment::Moment;
use crate::plan::Plan;
use crate::scratch::Ground;
use crate::spec::{RunSpec, TemplateUse};
use crate::wishes::Wishes;

/// The record of a container that has no id yet.
pub(crate) fn record_of(
    spec: &RunSpec,
    keeping: Keeping,
    image: &Image,
    image_name: String,
    plan: Plan,
) -> Record {
    let (entrypoint, command) = words(spec, &image.config, &plan);
    Record {
        version: VERSION,
        id: String::new(),
        name: plan.name,
        created: Moment::now(),
        image_id: image.id.to_string(),
        image: image_name,
        entrypoint,
        command,
        keeping: with_images(keeping, &image.config),
        template: spec.template == TemplateUse::Allowed,
        vm: plan.vm,
        scratch: spec.scratch,
        ground: Ground::Usual,
        host: spec.options.host.clone(),
        ports: spec.options.ports.clone().with_images(&image.config.exposed_ports),
        dns: spec.options.dns.clone(),
        wishes: Wishes::of(&spec.options),
        network_mode: spec.options.network.mode().to_owned(),
        networks: Vec::new(),
        copy_of: None,
        container: plan.container,
    }
}

/// The image's labels lie below those of the command line, and so do its other wishes.
fn with_images(mut keeping: Keeping, config: &ImageConfig) -> Keeping {
    let mut labels = config.labels.clone();
    labels.append(&mut keeping.labels);
    // A signal that the image does not spell right is as good as none.
    let signal = config.stop_signal.as_deref().and_then(|signal| signal.parse().ok());
    let timeout = config.stop_timeout.and_then(|seconds| i64::try_from(seconds).ok());
    Keeping {
        labels,
        stop_signal: keeping.stop_signal.or(signal),
        stop_timeout: keeping.stop_timeout.or(timeout),
        health: HealthCheck::over_image(keeping.health, config),
        ..keeping
    }
}

/// The program's words, for whoever looks at them: the entrypoint's and the others.
fn words(spec: &RunSpec, config: &ImageConfig, plan: &Plan) -> (Vec<String>, Vec<String>) {
    let count = match &spec.entrypoint {
        Some(program) => usize::from(!program.is_empty()),
        None => config.entrypoint.as_ref().map_or(0, Vec::len),
    };
    let args = &plan.container.process.args;
    let mut words: Vec<String> =
        args.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let command = words.split_off(count.min(words.len()));
    (words, command)
}

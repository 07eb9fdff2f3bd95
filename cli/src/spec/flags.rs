//! The values that `create` and `update` take alike.

use std::time::Duration;

use model::{
    container::{ContainerSpec, Healthcheck},
    hook::Hook,
    probe::Probes,
    service::{Mode, RestartPolicy, ServiceSpec, UpdatePolicy},
};

use super::problems::Problems;
use crate::{
    args::{HookFlags, SpecFlags},
    value,
};

/// Writes what the flags say into a declaration; what they do not say stays.
pub fn apply(flags: &SpecFlags, spec: &mut ServiceSpec, problems: &mut Problems) {
    match (flags.replicas, &mut spec.mode) {
        (Some(wanted), Mode::Replicated(replicas)) => *replicas = wanted,
        (Some(_), Mode::Global) => {
            problems.add("--replicas", "a global service has one task per node, no count")
        }
        (None, _) => {}
    }
    set(&mut spec.template.placement.max_per_node, flags.replicas_max_per_node);
    container(flags, &mut spec.template.container, problems);
    restart(flags, &mut spec.template.restart, problems);
    update(flags, &mut spec.update, problems);
    health(flags, &mut spec.template.container, problems);
    probes(flags, &mut spec.template.container.probes, problems);
    super::security::apply(&flags.security, spec, problems);
}

fn container(flags: &SpecFlags, container: &mut ContainerSpec, problems: &mut Problems) {
    let mut read = Reader(problems);
    read.field("--entrypoint", flags.entrypoint.as_deref(), value::words, &mut container.command);
    set(&mut container.pull, flags.pull.map(Into::into));
    set_text(&mut container.user, flags.user.as_ref());
    set_text(&mut container.workdir, flags.workdir.as_ref());
    set_text(&mut container.hostname, flags.hostname.as_ref());
    set(&mut container.init, flags.init);
    set(&mut container.read_only, flags.read_only);
    set_text(&mut container.stop_signal, flags.stop_signal.as_ref());
    let grace = flags.stop_grace_period.as_deref();
    read.field(
        "--stop-grace-period",
        grace,
        |text| value::duration(text).map(Some),
        &mut container.stop_grace,
    );
    read.field(
        "--drain",
        flags.drain.as_deref(),
        |text| value::duration(text).map(Some),
        &mut container.drain,
    );
    read.field("--log-max-size", flags.log_max_size.as_deref(), value::bytes, &mut container.log.max_size);
    set(&mut container.log.max_files, flags.log_max_files);
    let resources = &mut container.resources;
    read.field("--limit-cpu", flags.limit_cpu.as_deref(), value::cores, &mut resources.cpu_limit_millis);
    read.field("--limit-memory", flags.limit_memory.as_deref(), value::bytes, &mut resources.memory_limit);
    read.field(
        "--reserve-cpu",
        flags.reserve_cpu.as_deref(),
        value::cores,
        &mut resources.cpu_reserve_millis,
    );
    read.field(
        "--reserve-memory",
        flags.reserve_memory.as_deref(),
        value::bytes,
        &mut resources.memory_reserve,
    );
    set(&mut resources.pids_limit, flags.limit_pids);
}

fn restart(flags: &SpecFlags, policy: &mut RestartPolicy, problems: &mut Problems) {
    let mut read = Reader(problems);
    set(&mut policy.condition, flags.restart_condition.map(Into::into));
    if let Some(attempts) = flags.restart_max_attempts {
        policy.max_attempts = (attempts > 0).then_some(attempts);
    }
    read.duration("--restart-delay", flags.restart_delay.as_deref(), &mut policy.delay);
    // Docker knows only the delay: one that is longer than the cap lifts the cap with it.
    if flags.restart_max_delay.is_none() {
        policy.max_delay = policy.max_delay.max(policy.delay);
    }
    read.duration("--restart-max-delay", flags.restart_max_delay.as_deref(), &mut policy.max_delay);
    read.duration("--restart-window", flags.restart_window.as_deref(), &mut policy.window);
    read.duration("--restart-stable-after", flags.restart_stable_after.as_deref(), &mut policy.stable_after);
}

fn update(flags: &SpecFlags, policy: &mut UpdatePolicy, problems: &mut Problems) {
    let mut read = Reader(problems);
    set(&mut policy.parallelism, flags.update_parallelism);
    set(&mut policy.order, flags.update_order.map(Into::into));
    set(&mut policy.failure_action, flags.update_failure_action.map(Into::into));
    read.duration("--update-delay", flags.update_delay.as_deref(), &mut policy.delay);
    read.duration("--update-monitor", flags.update_monitor.as_deref(), &mut policy.monitor);
    let deadline = flags.update_progress_deadline.as_deref();
    read.duration("--update-progress-deadline", deadline, &mut policy.progress_deadline);
    read.field(
        "--update-max-failures",
        flags.update_max_failures.as_deref(),
        str::parse,
        &mut policy.max_failures,
    );
    read.field("--update-max-errors", flags.update_max_errors.as_deref(), str::parse, &mut policy.max_errors);
    let whole = |text: &str| value::duration(text).map(|whole| (!whole.is_zero()).then_some(whole));
    read.field("--update-deadline", flags.update_deadline.as_deref(), whole, &mut policy.deadline);
    set(&mut policy.history, flags.update_history);
    canary(flags, policy, problems);
    hook(&flags.hook, &mut policy.pre_deploy, problems);
}

fn hook(flags: &HookFlags, declared: &mut Option<Hook>, problems: &mut Problems) {
    let command = flags.pre_deploy.as_deref().map(str::trim);
    if command == Some("") {
        *declared = None;
        return;
    }
    let said = flags.pre_deploy_timeout.is_some()
        || flags.pre_deploy_retries.is_some()
        || flags.pre_deploy_migration.is_some();
    if command.is_none() && !(said && declared.is_some()) {
        if said {
            problems.add("--pre-deploy", "there is no hook that the other --pre-deploy flags could speak of");
        }
        return;
    }
    let hook = declared.get_or_insert_default();
    let mut read = Reader(problems);
    read.field("--pre-deploy", command, value::words, &mut hook.command);
    read.duration("--pre-deploy-timeout", flags.pre_deploy_timeout.as_deref(), &mut hook.timeout);
    set(&mut hook.retries, flags.pre_deploy_retries);
    set(&mut hook.migration, flags.pre_deploy_migration);
}

fn canary(flags: &SpecFlags, policy: &mut UpdatePolicy, problems: &mut Problems) {
    if flags.update_canary.as_deref() == Some("0") {
        policy.canary = None;
        return;
    }
    let said = flags.update_canary_soak.is_some() || flags.update_canary_promotion.is_some();
    if flags.update_canary.is_none() && !said {
        return;
    }
    let canary = policy.canary.get_or_insert_default();
    let mut read = Reader(problems);
    read.field("--update-canary", flags.update_canary.as_deref(), str::parse, &mut canary.replicas);
    read.duration("--update-canary-soak", flags.update_canary_soak.as_deref(), &mut canary.soak);
    set(&mut canary.promotion, flags.update_canary_promotion.map(Into::into));
}

fn health(flags: &SpecFlags, container: &mut ContainerSpec, problems: &mut Problems) {
    if flags.no_healthcheck {
        container.healthcheck = Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
        return;
    }
    let said = flags.health_cmd.is_some()
        || flags.health_interval.is_some()
        || flags.health_timeout.is_some()
        || flags.health_retries.is_some()
        || flags.health_start_period.is_some();
    if !said {
        return;
    }
    let check = container.healthcheck.get_or_insert_default();
    if let Some(command) = &flags.health_cmd {
        check.test = vec!["CMD-SHELL".into(), command.clone()];
    } else if check.test.first().is_some_and(|test| test == "NONE") {
        check.test.clear();
    }
    set(&mut check.retries, flags.health_retries);
    let mut read = Reader(problems);
    read.duration("--health-interval", flags.health_interval.as_deref(), &mut check.interval);
    read.duration("--health-timeout", flags.health_timeout.as_deref(), &mut check.timeout);
    read.duration("--health-start-period", flags.health_start_period.as_deref(), &mut check.start_period);
}

/// A start-up probe that is taken away takes its deadline with it.
fn probes(flags: &SpecFlags, probes: &mut Probes, problems: &mut Problems) {
    let startup = flags.probe_startup.as_deref();
    if let Some(declared) =
        startup.and_then(|text| problems.take("--probe-startup", value::probe::probe(text)))
    {
        probes.start_deadline = declared.as_ref().and_then(|declared| declared.deadline).unwrap_or_default();
        probes.startup = declared.map(|declared| declared.probe);
    }
    if let Some(declared) =
        flags.diagnose.as_deref().and_then(|text| problems.take("--diagnose", value::probe::diagnosis(text)))
    {
        probes.diagnosis = declared;
    }
    let others = [
        ("--probe-readiness", &flags.probe_readiness, &mut probes.readiness),
        ("--probe-liveness", &flags.probe_liveness, &mut probes.liveness),
    ];
    for (flag, text, probe) in others {
        let Some(declared) = text.as_deref().and_then(|text| problems.take(flag, value::probe::probe(text)))
        else {
            continue;
        };
        if declared.as_ref().is_some_and(|declared| declared.deadline.is_some()) {
            problems.add(flag, "only --probe-startup has a deadline");
        }
        *probe = declared.map(|declared| declared.probe);
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// An empty text returns a field to the image's or the engine's default.
fn set_text(field: &mut Option<String>, value: Option<&String>) {
    if let Some(value) = value {
        *field = (!value.is_empty()).then(|| value.clone());
    }
}

/// Reads texts into fields and notes those that cannot be read.
struct Reader<'a>(&'a mut Problems);

impl Reader<'_> {
    fn field<T>(
        &mut self,
        flag: &str,
        text: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
        field: &mut T,
    ) {
        set(field, text.and_then(|text| self.0.take(flag, read(text))));
    }

    fn duration(&mut self, flag: &str, text: Option<&str>, field: &mut Duration) {
        self.field(flag, text, value::duration, field);
    }
}

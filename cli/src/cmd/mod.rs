//! One file per command. A command reads its arguments, asks the client, and prints.

mod audit;
mod authority;
mod context;
mod cron;
mod deploy;
mod deploy_token;
mod dev;
mod events;
mod freeze;
mod inspect;
mod item;
mod job;
mod login;
mod login_method;
mod logs;
mod manager;
mod network;
mod node;
mod pipeline;
mod policy;
mod ps;
mod registry;
mod run;
mod scale;
mod service;
mod shell;
mod status;
mod token;
mod user;
mod whoami;

use std::path::PathBuf;

use crate::{
    args::{Cli, Command, Global},
    client::{Client, bearer, id_token},
    context::{Context, Contexts, default_path},
    exit::{Code, Failure},
    output::{self, json},
};

/// What every command has at hand.
pub struct Session {
    /// Flags of every command.
    pub global: Global,
    /// Where the contexts are.
    pub config: PathBuf,
    /// The session that an ID token was exchanged for.
    pub exchanged: Option<Context>,
}

impl Session {
    /// A client of the chosen cluster: of the context that was named, else of the ID token or the deploy token in the environment,
    /// else of the current context.
    ///
    /// # Errors
    /// There is none, or its context is not usable.
    pub fn client(&self) -> Result<Client, Failure> {
        if let Some(socket) = &self.global.socket {
            return Ok(Client::local(socket, self.global.stale, self.global.timeout));
        }
        if let Some(context) = &self.exchanged {
            return Client::new(context, &self.config, self.global.stale, self.global.timeout);
        }
        let named = self.global.context.is_some();
        if let Some(context) = bearer::from_environment()?.filter(|_| !named) {
            return Client::new(&context, &self.config, self.global.stale, self.global.timeout);
        }
        let contexts = Contexts::load(&self.config)?;
        let context = contexts.choose(self.global.context.as_deref())?;
        login::warn_of_end(context);
        Client::new(context, &self.config, self.global.stale, self.global.timeout)
    }

    /// Prints a result: JSON if that is wanted, else what `text` makes.
    pub fn print<T: serde::Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) {
        if self.global.json {
            json::print(value);
        } else {
            output::print(text());
        }
    }

    /// Prints a list: ids if `quiet`, else as [`print`](Self::print).
    pub fn list<T: serde::Serialize>(
        &self,
        quiet: bool,
        values: &[T],
        id: impl Fn(&T) -> String,
        text: impl FnOnce() -> String,
    ) {
        if quiet && !self.global.json {
            for value in values {
                output::print(id(value));
            }
        } else {
            self.print(values, text);
        }
    }
}

/// Shows the ID token of the environment, once for the whole command; `None`: there is none, or something else was named.
async fn exchange(global: &Global) -> Result<Option<Context>, Failure> {
    if global.context.is_some() || global.socket.is_some() {
        return Ok(None);
    }
    let Some(context) = id_token::from_environment()? else { return Ok(None) };
    id_token::exchange(context, global.binding.clone(), global.timeout).await.map(Some)
}

/// Runs a command.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(cli: Cli) -> Result<Code, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Completions { shell } => return Ok(shell::completions(shell)),
        Command::Man { dir } => return shell::man(&dir),
        Command::Version => return Ok(shell::version(global.json)),
        _ => {}
    }
    let exchanged = match command {
        Command::Context(_) | Command::Dev(_) => None,
        _ => exchange(&global).await?,
    };
    let session = Session { global, config: default_path()?, exchanged };
    match command {
        Command::Service(command) => service::run(&session, command).await,
        Command::Deploy(deploy) => deploy::run(&session, *deploy).await,
        Command::Run(run) => run::run(&session, *run).await,
        Command::Job(command) => job::run(&session, command).await,
        Command::Cron(command) => cron::run(&session, command).await,
        Command::Scale(scale) => scale::run(&session, scale).await,
        Command::Node(command) => node::run(&session, command).await,
        Command::Manager(command) => manager::run(&session, command).await,
        Command::Freeze(command) => freeze::run(&session, command).await,
        Command::Registry(command) => registry::run(&session, command).await,
        Command::Policy(command) => policy::run(&session, command).await,
        Command::Secret(command) => item::secret(&session, command).await,
        Command::Config(command) => item::config(&session, command).await,
        Command::Network(command) => network::run(&session, command).await,
        Command::Authority(command) => authority::run(&session, command).await,
        Command::Token(command) => token::run(&session, command).await,
        Command::User(command) => user::run(&session, command).await,
        Command::Login(flags) => login::run(&session, flags).await,
        Command::Logout(flags) => login::end(&session, flags),
        Command::LoginMethod(command) => login_method::run(&session, command).await,
        Command::Whoami => whoami::run(&session).await,
        Command::CanI(question) => whoami::can_i(&session, question).await,
        Command::DeployToken(command) => deploy_token::run(&session, command).await,
        Command::DeployBinding(command) => pipeline::binding(&session, command).await,
        Command::Issuer(command) => pipeline::issuer(&session, command).await,
        Command::Audit(command) => audit::run(&session, command).await,
        Command::Ps(ps) => ps::run(&session, ps).await,
        Command::Logs(logs) => logs::run(&session, logs).await,
        Command::Events(events) => events::run(&session, events).await,
        Command::Status => status::run(&session).await,
        Command::Why { reference } => status::why(&session, reference).await,
        Command::Context(command) => context::run(&session, command).await,
        Command::Dev(command) => dev::run(&session, command).await,
        Command::Completions { .. } | Command::Man { .. } | Command::Version => Ok(Code::DONE),
    }
}

//! What russh asks about one connection: is the login right, may this be opened. Who logged in decides: an agent may
//! announce services ([`super::agent`]), an operator may reach them ([`super::operator`]). Everything that has no method
//! here is refused by russh's defaults: agent forwarding, unix-socket listeners. Requests in a session are refused here,
//! as russh would leave them without the answer that RFC 4254 §5.4 asks for: X11, environment, subsystems.

use russh::server::{self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, Error, Pty};

use shared::fingerprint::HostKeyFingerprint;

use super::address;
use super::agent::{Agent, Wires};
use super::login::{Login, Who};
use super::operator::{Destination, Operating};
use super::recorder::Recorder;
use crate::access::Access;
use crate::admission::Caller;
use crate::audit::entry::{agent, stranger};
use crate::budget::Budget;
use crate::budget::memory::{Reservation, Use};
use crate::telemetry::LoginLabel;
use crate::tunnels::Tunnels;

/// Public keys that may be offered on one connection. Agents of people hold a handful; who tries more is guessing, and
/// russh does not count what is only offered.
const MAX_KEYS: usize = 16;

/// Requests of an agent that are refused. Honest ones make none; who goes on is told to leave, since each costs an answer.
const MAX_STRAYS: usize = 64;

/// Wrong passwords on one connection; the next one ends it. An agent has one offer and needs one try; OpenSSH asks a
/// person three times.
const MAX_PASSWORDS: usize = 3;

/// One connection's handler.
pub(super) struct Handler {
    tunnels: Tunnels,
    access: Access,
    budget: Budget,
    /// After the login.
    room: Option<Reservation>,
    recorder: Recorder,
    login: Login,
    wires: Wires,
    role: Role,
    keys_offered: usize,
    passwords_refused: usize,
    strays: usize,
    caller: Caller,
}

enum Role {
    Stranger,
    Agent(Agent),
    Operator(Operating),
}

impl Handler {
    pub(super) fn new(
        (tunnels, access, budget): (Tunnels, Access, Budget),
        recorder: Recorder,
        login: Login,
        wires: Wires,
        caller: Caller,
    ) -> Self {
        Self {
            tunnels,
            access,
            budget,
            room: None,
            recorder,
            login,
            wires,
            role: Role::Stranger,
            keys_offered: 0,
            passwords_refused: 0,
            strays: 0,
            caller,
        }
    }

    /// An agent asked for what it may not have.
    fn stray(&mut self) {
        self.strays += 1;
        if self.strays > MAX_STRAYS {
            self.wires.closer.close("the agent asks for what it may not have");
        }
    }

    /// Refuses what was shown, or ends the connection where that was once too often.
    fn refuse(&mut self, too_often: bool) -> Result<Auth, Error> {
        self.login.refuse();
        if too_often || self.caller.is_on_probation() {
            Err(Error::NotAuthenticated)
        } else {
            Ok(Auth::reject())
        }
    }

    /// Told to whoever logs in while the memory budget is used up.
    const NO_ROOM: &'static str = "the gateway's memory budget is used up; try again later";

    fn count(&self, login: LoginLabel) {
        self.tunnels.telemetry().login(login);
    }

    /// The record of a login is durable, as far as the disk allows, before whoever logs in hears of it. Where there is no
    /// room, the connection ends, and its end says why.
    async fn welcome(&mut self, who: Who) -> Auth {
        match self.budget.reserve(Use::Tunnel) {
            Ok(room) => self.room = Some(room),
            Err(_) => self.wires.closer.close(Self::NO_ROOM),
        }
        self.role = match &who {
            Who::Agent(admitted) => {
                tracing::debug!(edge = %admitted.edge, link = admitted.link.0, "tunnel login");
                let entry = self.recorder.entry(agent(&admitted.edge), "tunnel.login").edge(&admitted.edge);
                self.recorder.audit.note(entry);
                Role::Agent(Agent::new(admitted.clone(), self.tunnels.clone(), self.wires.clone()))
            }
            Who::Operator(operator) => {
                tracing::info!(operator = %operator.name, "operator logged in over SSH");
                let entry = self.recorder.entry(operator.into(), "ssh.login");
                self.recorder.audit.record_if_possible(entry).await;
                let (tunnels, recorder) = (self.tunnels.clone(), self.recorder.clone());
                Role::Operator(Operating::new(operator.clone(), tunnels, &self.wires, recorder))
            }
        };
        self.caller.welcome();
        self.login.set(who);
        Auth::Accept
    }
}

/// Says what a forward waits for, by the only message that SSH has for it (RFC 4253 §11.3).
async fn tell_outlook(
    operating: &Operating,
    destination: Option<&Destination>,
    session: &mut Session,
) -> Result<(), Error> {
    match operating.outlook(destination).await {
        Some(waiting) => session.debug(true, &waiting, ""),
        None => Ok(()),
    }
}

impl server::Handler for Handler {
    type Error = Error;

    /// An offer's password lets an agent in, or a stock client in its place; an API token lets an operator in. What a token looks like is no secret, so the
    /// order in which they are tried tells nothing.
    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        if let Some(operator) = self.access.by_ssh_password(password, address(self.recorder.peer)) {
            self.count(LoginLabel::OperatorPassword);
            return Ok(self.welcome(Who::Operator(operator)).await);
        }
        match self.tunnels.log_in(user, password, self.wires.closer.clone()).await {
            Some(admitted) => {
                self.count(LoginLabel::EdgePassword);
                Ok(self.welcome(Who::Agent(admitted)).await)
            }
            None => {
                self.count(LoginLabel::RefusedPassword);
                self.recorder.refused(stranger(), "ssh.login", "unknown-credential");
                self.passwords_refused += 1;
                self.refuse(self.passwords_refused > MAX_PASSWORDS)
            }
        }
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        self.keys_offered += 1;
        if self.keys_offered > MAX_KEYS {
            return Err(Error::NotAuthenticated);
        }
        let known = self.access.by_ssh_key(offer.public_key).is_some()
            || self.tunnels.knows_key(HostKeyFingerprint::of(offer.public_key)).await;
        if !known {
            self.count(LoginLabel::RefusedKey);
            // People's clients offer one key after the other: that is told only where none of them was right.
            self.login.try_in_vain();
        }
        // Of a person's keys the right one may come last, on probation too.
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        if let Some(operator) = self.access.by_ssh_key(key.public_key) {
            self.count(LoginLabel::OperatorKey);
            return Ok(self.welcome(Who::Operator(operator)).await);
        }
        let fingerprint = HostKeyFingerprint::of(key.public_key);
        match self.tunnels.log_in_by_key(fingerprint, self.wires.closer.clone()).await {
            Some(admitted) => {
                self.count(LoginLabel::EdgeKey);
                Ok(self.welcome(Who::Agent(admitted)).await)
            }
            None => {
                self.count(LoginLabel::RefusedKey);
                self.recorder.refused(stranger(), "tunnel.login", "not-admitted");
                if self.tunnels.knows_key(fingerprint).await {
                    tracing::info!(key = %fingerprint, "a stock client was refused: its edge has a tunnel");
                    return Ok(Auth::reject());
                }
                self.refuse(false)
            }
        }
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        match &mut self.role {
            Role::Agent(agent) => {
                let accepted = agent.forward(address, *port, session);
                if !accepted {
                    self.stray();
                }
                Ok(accepted)
            }
            Role::Stranger => Ok(false),
            Role::Operator(operating) => {
                operating.refuse("ssh.listen");
                Ok(false)
            }
        }
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        match &self.role {
            Role::Operator(operating) => {
                let destination = Destination::of_tcp(host, port);
                tell_outlook(operating, destination.as_ref(), session).await?;
                operating.forward(destination, channel, reply);
            }
            Role::Stranger | Role::Agent(_) => self.stray(),
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        match &self.role {
            Role::Operator(operating) => {
                let destination = Destination::of_socket(path);
                tell_outlook(operating, destination.as_ref(), session).await?;
                operating.forward(destination, channel, reply);
            }
            Role::Stranger | Role::Agent(_) => self.stray(),
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        match &mut self.role {
            Role::Operator(operating) => operating.open_session(channel, reply).await,
            Role::Stranger | Role::Agent(_) => self.stray(),
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        match &mut self.role {
            Role::Operator(operating) => {
                operating.has_terminal(channel);
                session.channel_success(channel)
            }
            Role::Stranger | Role::Agent(_) => session.channel_failure(channel),
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        match &mut self.role {
            Role::Operator(operating) => {
                session.channel_success(channel)?;
                operating.list(channel);
                Ok(())
            }
            Role::Stranger | Role::Agent(_) => session.channel_failure(channel),
        }
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        match &mut self.role {
            Role::Operator(operating) => {
                session.channel_success(channel)?;
                operating.run(channel, command);
                Ok(())
            }
            Role::Stranger | Role::Agent(_) => session.channel_failure(channel),
        }
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }
}

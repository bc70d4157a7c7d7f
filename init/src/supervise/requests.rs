//! What components ask init for, over the pipes that it handed to them.

use super::Supervision;
use super::orders::{Look, Outcome};
use crate::app_store;
use crate::component::{Component, Supervised};
use crate::floors::Floors;
use crate::log::Log;
use crate::reset;
use crate::slots::{SaveError, Slots};
use holdfast_lifecycle::patience::BETWEEN_ORDERS_MS;
use holdfast_lifecycle::reset::Kept;
use holdfast_lifecycle::slots::Agreement;
use holdfast_linux::block;
use holdfast_linux::channel::{self, InitEnd};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::direct::Direct;
use holdfast_linux::introduction::Introduction;
use holdfast_linux::network_namespace::NetworkNamespace;
use holdfast_linux::power::End;
use holdfast_sandbox::held::{Held, Running};
use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::policy::{Network, Requests};
use holdfast_sandbox::reset_order::Order;
use holdfast_sandbox::wire::{self, Listener, Reply, Request};
use holdfast_types::ComponentId;
use std::os::fd::{AsFd, OwnedFd};

/// Stands for a service where an app's component id is asked for. No app can name it: it would have to be
/// named by the service as well.
const NO_APP: ComponentId = ComponentId([0; 16]);

/// What becomes of a wish to know another service.
enum Introduced {
    /// Whoever asks is replied to by the one who introduces it.
    InAMoment,
    /// It does not happen, which is to be said.
    Not(Reply),
}

impl Supervision<'_> {
    pub(super) fn hear_request(&mut self, index: usize) {
        let Some(supervised) = self.components.get_mut(index) else {
            return;
        };
        let Some(running) = &mut supervised.running else {
            return;
        };
        let Some(requests) = &running.requests else {
            return;
        };
        // One byte more than a request has: what is longer is cut there, and told by it.
        let mut message = [0u8; wire::MAX_REQUEST_BYTES + 1];
        let length = match channel::read(requests.requests(), &mut message) {
            Ok(None) => return,
            Ok(Some(length @ 1..)) => length,
            Ok(Some(0)) | Err(_) => {
                // A closed pipe stays readable for ever: stop polling it.
                running.requests = None;
                return;
            }
        };
        let request = wire::decode_request(message.get(..length).unwrap_or_default());
        let (reply, handed) = match request {
            Ok(Request::Link(at)) if supervised.component.plan.requests.links => self.link(at),
            Ok(Request::Network) if supervised.component.plan.requests.status => {
                match self.introduce(index, |service| service.links, &Reply::NetworkWanted) {
                    Introduced::InAMoment => return,
                    Introduced::Not(reply) => (reply, None),
                }
            }
            Ok(Request::Update) if supervised.component.plan.requests.uplink => {
                match self.introduce(index, |service| service.update, &Reply::Uplink) {
                    Introduced::InAMoment => return,
                    Introduced::Not(reply) => (reply, None),
                }
            }
            Ok(Request::OtherSlot(part)) if supervised.component.plan.requests.update => {
                self.slot_part(self.slots.other_part(part))
            }
            Ok(Request::RunningSlot(part)) if supervised.component.plan.requests.update => {
                self.slot_part(self.slots.running_part(part))
            }
            Ok(Request::Listener(at)) if supervised.component.plan.requests.update => {
                self.listener(at)
            }
            Ok(Request::OtherDisk(at)) if supervised.component.plan.requests.update => {
                self.other_disk(at)
            }
            // It is replied to when somebody else has found the order, or has not.
            Ok(Request::Reset(order)) if supervised.component.plan.requests.update => {
                let begins = monotonic_ms().max(self.next_look);
                self.next_look = begins.saturating_add(BETWEEN_ORDERS_MS);
                self.look = Some(Look::begin(self.log, index, order, begins));
                return;
            }
            Ok(request) => (self.answer(index, &request), None),
            Err(error) => {
                let name = &supervised.component.name;
                self.log.failure(&format!("{name} sent no valid request"), &error);
                (Reply::Unknown, None)
            }
        };
        self.reply(index, &reply, handed);
    }

    fn reply(&self, index: usize, reply: &Reply, handed: Option<OwnedFd>) {
        let requests =
            self.components.get(index).and_then(|c| c.running.as_ref()?.requests.as_ref());
        if let (Some(requests), Ok(reply)) = (requests, wire::encode_reply(reply)) {
            // Whoever does not read its replies misses them.
            let _ = match handed {
                Some(socket) => channel::send_with(requests.answers(), &reply, socket.as_fd()),
                None => channel::send(requests.answers(), &reply),
            };
        }
    }

    /// Goes on with the look for an order, and takes it where it was found.
    pub(super) fn look_for_order(&mut self) {
        let Some(look) = &mut self.look else {
            return;
        };
        let now = monotonic_ms();
        let outcome = look.go_on(self.log, &self.starter, self.admission.as_ref(), now);
        let (asking, order) = (look.asking, look.order);
        let reply = match outcome {
            Outcome::Goes => return,
            Outcome::Confirmed => self.reset(order),
            Outcome::Nowhere => {
                let partitions = order.partitions;
                self.log.warning(&format!("nobody but update sees an order to reset {partitions}"));
                Reply::Failed
            }
        };
        self.look = None;
        self.reply(asking, &reply, None);
    }

    /// Does what a component asks for, if it may ask for it.
    fn answer(&mut self, index: usize, request: &Request) -> Reply {
        let Some(asking) = self.components.get(index) else {
            return Reply::Unknown;
        };
        let (name, rights) = (&asking.component.name, asking.component.plan.requests);
        if !request.is_allowed(rights) {
            self.log.warning(&format!("{name} may not ask for {request:?}"));
            return Reply::Denied;
        }
        if matches!(
            request,
            Request::Reboot
                | Request::PowerOff
                | Request::Start(_)
                | Request::Stop(_)
                | Request::Restart(_)
        ) {
            self.log.notice(&format!("{name} asks for {request:?}"));
        }
        match request {
            Request::Reboot => self.end(End::Reboot),
            Request::PowerOff => self.end(End::PowerOff),
            Request::Status(at) => {
                let found = self.components.get(usize::from(*at));
                return found.map_or(Reply::Unknown, |found| Reply::Status(found.status()));
            }
            Request::Clock => return Reply::Clock(self.clock.status(monotonic_ms())),
            Request::SetClock(behind_us) => {
                return Reply::Judged(self.clock.claim(self.log, *behind_us, monotonic_ms()));
            }
            Request::Held(at) => return self.held(*at).map_or(Reply::Unknown, Reply::Held),
            Request::Announce => return self.done(Slots::announce),
            Request::Stage => return self.done(Slots::stage),
            Request::StageApp(id) => {
                if let Err(error) = app_store::stage(*id) {
                    self.log.failure(&format!("the package of {id} is not staged"), &error);
                    return Reply::Failed;
                }
                self.log.notice(&format!("a package of {id} is staged"));
            }
            Request::Agree => self.agreement = Agreement::NotNeeded,
            Request::RaiseTime(seconds) => self.clock.raise_signed(self.log, *seconds),
            // Who may ask for these is answered before.
            Request::Link(_)
            | Request::Network
            | Request::Update
            | Request::OtherSlot(_)
            | Request::RunningSlot(_)
            | Request::OtherDisk(_)
            | Request::Reset(_)
            | Request::Listener(_) => return Reply::Denied,
            Request::Start(name) | Request::Stop(name) | Request::Restart(name) => {
                let named = self.components.iter().position(|c| c.component.name == *name);
                let Some(named) = named else {
                    return Reply::Unknown;
                };
                self.manage(named, request);
            }
        }
        Reply::Accepted
    }

    /// Takes an order for the next start, with what has to come through it.
    fn reset(&mut self, order: Order) -> Reply {
        let kept = Kept {
            os_floor: self.identities.os_floor,
            time_floor: self.clock.saved_floor(),
            app_floors: self.identities.app_floors(),
        };
        match reset::order(order, kept) {
            Ok(true) => {
                self.log.notice(&format!("the owner resets the device: {}", order.partitions));
                self.end(End::Reboot);
                Reply::Accepted
            }
            Ok(false) => Reply::Unknown,
            Err(error) => {
                self.log.failure("the reset that was ordered does not begin", &error);
                Reply::Failed
            }
        }
    }

    fn done(&mut self, step: impl FnOnce(&mut Slots, &Log) -> Result<(), SaveError>) -> Reply {
        match step(&mut self.slots, self.log) {
            Ok(()) => Reply::Accepted,
            Err(error) => {
                self.log.failure("the boot state stays as it is", &error);
                Reply::Failed
            }
        }
    }

    /// What the device holds of the OS, or of an app of the image.
    fn held(&self, at: u16) -> Option<Held> {
        let Some(at) = usize::from(at).checked_sub(1) else {
            return Some(self.slots.held());
        };
        let id = *self.apps.get(at)?;
        let packages = self.components.iter().filter_map(|c| c.component.package.as_ref());
        let mut of_app = packages.filter(|package| package.header.component_id == id);
        let running = of_app.next().map(|package| Running {
            version: package.header.version,
            rollback_index: package.header.rollback_index,
            root_hash: package.header.root_hash,
            data_bytes: package.header.data_bytes,
            on_trial: package.trial.is_some(),
        });
        let (component, waits) = (holdfast_sandbox::held::Component::App(id), app_store::waits(id));
        let floor = self.identities.of(component);
        // An app is tried beside an OS that has agreed to itself.
        Some(Held { component, floor, running, waits, disagreed: false })
    }

    /// The app at a place among those with grants on the network, and a socket in its namespace.
    fn link(&self, at: u16) -> (Reply, Option<OwnedFd>) {
        let mut networked = self.components.iter().filter_map(|supervised| {
            let Network::Granted(grants) = &supervised.component.plan.network else {
                return None;
            };
            Some((supervised, grants))
        });
        let Some((supervised, grants)) = networked.nth(usize::from(at)) else {
            return (Reply::Unknown, None);
        };
        let socket = supervised.network.as_ref().map(NetworkNamespace::netlink);
        let name = supervised.component.name.clone();
        let package = supervised.component.package.as_ref();
        match socket {
            Some(Ok(socket)) => {
                let app = NetworkedApp {
                    name,
                    component_id: package.map_or(NO_APP, |package| package.header.component_id),
                    uid: supervised.component.uid,
                    grants: grants.clone(),
                };
                (Reply::Link(app), Some(socket.into_descriptor()))
            }
            Some(Err(error)) => {
                self.log.failure(&format!("{name} gets no link"), &error);
                (Reply::Denied, None)
            }
            None => (Reply::Denied, None),
        }
    }

    /// The app at a place among those that have to do with updates, and the socket at which it calls.
    fn listener(&self, at: u16) -> (Reply, Option<OwnedFd>) {
        let mut apps = self.components.iter().filter_map(|c| Some((c, c.updates.as_ref()?)));
        let Some((supervised, socket)) = apps.nth(usize::from(at)) else {
            return (Reply::Unknown, None);
        };
        let Component { name, plan, .. } = &supervised.component;
        match socket.descriptor() {
            Ok(socket) => {
                let app = Listener { name: name.clone(), access: plan.updates };
                (Reply::Listener(app), Some(socket))
            }
            Err(error) => {
                self.log.failure(&format!("{name} is told of no updates"), &error);
                (Reply::Failed, None)
            }
        }
    }

    fn slot_part(&self, part: Result<OwnedFd, SaveError>) -> (Reply, Option<OwnedFd>) {
        match part {
            Ok(descriptor) => (Reply::Accepted, Some(descriptor)),
            Err(error) => {
                self.log.failure("a slot cannot be handed over", &error);
                (Reply::Failed, None)
            }
        }
    }

    /// A disk that the system does not run from, for reading.
    fn other_disk(&self, at: u16) -> (Reply, Option<OwnedFd>) {
        let disks = block::other_disks().unwrap_or_else(|error| {
            self.log.failure("cannot look for cards", &error);
            Vec::new()
        });
        let Some(path) = disks.get(usize::from(at)) else {
            return (Reply::Unknown, None);
        };
        match Direct::open_to_read(path) {
            Ok(disk) => (Reply::Accepted, Some(disk.into_descriptor())),
            // A reader without a card.
            Err(_) => (Reply::Failed, None),
        }
    }

    /// A socket to the service that has a right: it gets the other end, with this message. A child of init's sees to
    /// it, and replies.
    fn introduce(
        &self,
        asking: usize,
        has_right: impl Fn(Requests) -> bool,
        message: &Reply,
    ) -> Introduced {
        fn wire(service: &Supervised) -> Option<&InitEnd> {
            service.running.as_ref()?.requests.as_ref()
        }
        let asking = self.components.get(asking).and_then(wire);
        let wanted = self.components.iter().find(|c| has_right(c.component.plan.requests));
        let (Some(asking), Some(wanted)) = (asking, wanted.and_then(wire)) else {
            return Introduced::Not(Reply::Unknown);
        };
        let encoded = [message, &Reply::Accepted, &Reply::Denied].map(wire::encode_reply);
        let [Ok(message), Ok(accepted), Ok(refused)] = &encoded else {
            return Introduced::Not(Reply::Unknown);
        };
        match (Introduction { wanted, message, asking, accepted, refused }).make() {
            Ok(()) => Introduced::InAMoment,
            Err(error) => {
                self.log.failure("no service is told of another", &error);
                Introduced::Not(Reply::Denied)
            }
        }
    }

    fn manage(&mut self, index: usize, request: &Request) {
        let now = monotonic_ms();
        let ending = self.ending.is_some();
        let Some(supervised) = self.components.get_mut(index) else {
            return;
        };
        if !matches!(request, Request::Start(_)) {
            supervised.stop(now);
        }
        if !matches!(request, Request::Stop(_)) && !ending {
            supervised.supervisor.start_again(now);
        }
    }
}

//! What components ask init for, over the pipes that it handed to them.

use super::Supervision;
use super::ends::fill;
use super::orders::{Look, Outcome};
use crate::app_store;
use crate::component::{Component, Supervised};
use crate::factory_reset;
use crate::floors::Floors;
use crate::log::Log;
use crate::slots::{SaveError, Slots};
use holdfast_lifecycle::factory_reset::Kept;
use holdfast_lifecycle::patience::BETWEEN_ORDERS_MS;
use holdfast_lifecycle::reducer::{End, Event};
use holdfast_linux::block;
use holdfast_linux::channel::{self, InitEnd};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::direct::Direct;
use holdfast_linux::introduction::Introduction;
use holdfast_linux::network_namespace::NetworkNamespace;
use holdfast_sandbox::held::{Held, ReleaseSubject, Running};
use holdfast_sandbox::network::{NetworkGrants, NetworkedApp};
use holdfast_sandbox::policy::{Network, Requests};
use holdfast_sandbox::reset_order::Order;
use holdfast_sandbox::wire::{
    self, ClockRequest, IdentityRequest, Listener, Reply, ReportRequest, Request, SlotPart,
    StatusRequest, UpdateRequest, UplinkRequest, VethsRequest,
};
use holdfast_types::ComponentId;
use holdfast_types::event::init as event;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Stands for a service where an app's component id is asked for. No app can name it: it would have to be
/// named by the service as well.
const NO_APP: ComponentId = ComponentId([0; 16]);

/// A reply to a component, with the descriptors that go with it.
pub(super) type Answer = (Reply, Vec<OwnedFd>);

/// A reply with which nothing comes.
fn alone(reply: Reply) -> Option<Answer> {
    Some((reply, Vec::new()))
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
        // One request of each component in a turn: whoever asks without end gets no more of init than the others. Who asks is
        // known by the pipe, which this program alone was handed at its start; a message names nobody.
        //
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
        let Component { name, plan, .. } = &supervised.component;
        let answer = match wire::decode_request(message.get(..length).unwrap_or_default()) {
            Ok(request) if request.is_allowed(plan.requests) => self.answer(index, request),
            Ok(request) => {
                let text = format!("{name} may not ask for {request:?}");
                self.log.warning(event::REQUEST_DENIED, &text);
                alone(Reply::PermissionDenied)
            }
            Err(error) => {
                let what = format!("{name} sent no valid request");
                self.log.failure(event::REQUEST_INVALID, &what, &error);
                alone(Reply::NotFound)
            }
        };
        if let Some((reply, handed)) = answer {
            self.reply(index, &reply, &handed);
        }
    }

    pub(super) fn reply(&self, index: usize, reply: &Reply, handed: &[OwnedFd]) {
        let requests =
            self.components.get(index).and_then(|c| c.running.as_ref()?.requests.as_ref());
        if let (Some(requests), Ok(reply)) = (requests, wire::encode_reply(reply)) {
            let handed: Vec<BorrowedFd<'_>> = handed.iter().map(AsFd::as_fd).collect();
            // Whoever does not read its replies misses them.
            let _ = channel::send_with(requests.answers(), &reply, &handed);
        }
    }

    /// Answers a request that the component's plan allows. `None` where somebody else replies, or later.
    fn answer(&mut self, index: usize, request: Request) -> Option<Answer> {
        match request {
            Request::Status(StatusRequest::Components)
            | Request::Report(ReportRequest::Components) => {
                let components = self.components.iter().enumerate();
                let statuses = components.filter_map(|(index, supervised)| {
                    Some(supervised.status(self.state.component(index)?))
                });
                alone(Reply::Components(statuses.collect()))
            }
            Request::Status(StatusRequest::Network) | Request::Report(ReportRequest::Network) => {
                self.introduce(index, |service| service.veths, &Reply::NetworkWanted)
            }
            Request::Status(StatusRequest::Held) | Request::Update(UpdateRequest::Held) => {
                alone(Reply::Held(self.held()))
            }
            Request::Manage(request) => self.decide(Event::Manage { asking: index, request }),
            Request::Shutdown(end) => {
                self.decide(Event::EndAsked { asking: index, end: end.into() })
            }
            Request::Veths(VethsRequest::All) => {
                let uids = self.networked().map(|(supervised, _)| supervised.component.uid);
                alone(Reply::Veths(uids.collect()))
            }
            Request::Veths(VethsRequest::Of(uid)) => Some(self.veth(uid)),
            Request::Clock(ClockRequest::Behind(microseconds)) => {
                let verdict = self.clock.claim(self.log, microseconds, monotonic_ms());
                alone(Reply::Judged(verdict))
            }
            Request::Uplink(UplinkRequest::Agent) => {
                self.introduce(index, |service| service.update, &Reply::Uplink)
            }
            Request::Uplink(UplinkRequest::Identity) => {
                self.introduce(index, |service| service.identity, &Reply::Identity)
            }
            Request::Uplink(UplinkRequest::Report) => {
                self.introduce(index, |service| service.report, &Reply::Report)
            }
            Request::Status(StatusRequest::Clock)
            | Request::Uplink(UplinkRequest::Clock)
            | Request::Report(ReportRequest::Clock) => {
                alone(Reply::Clock(self.clock.status(monotonic_ms())))
            }
            Request::Identity(IdentityRequest::Claims) | Request::Report(ReportRequest::Claims) => {
                alone(self.claims())
            }
            Request::Report(ReportRequest::Ends) => alone(self.take_ends()),
            Request::Identity(IdentityRequest::RunningBoot) => {
                Some(self.slot_part(self.slots.running_part(SlotPart::Boot)))
            }
            Request::Identity(IdentityRequest::Tpm) => Some(self.tpm()),
            Request::Identity(IdentityRequest::Listeners) => Some(self.authenticating()),
            Request::Report(ReportRequest::Crash) => Some(self.take_crash()),
            Request::Report(ReportRequest::LastOutput) => alone(self.take_last_output()),
            Request::Report(ReportRequest::Fill) => alone(Reply::Fill(fill())),
            Request::Update(request) => self.update(index, request),
        }
    }

    /// Answers a request of the update agent.
    fn update(&mut self, index: usize, request: UpdateRequest) -> Option<Answer> {
        let reply = match request {
            UpdateRequest::Held => Reply::Held(self.held()),
            UpdateRequest::OtherSlot(part) => {
                return Some(self.slot_part(self.slots.other_part(part)));
            }
            UpdateRequest::RunningSlot(part) => {
                return Some(self.slot_part(self.slots.running_part(part)));
            }
            UpdateRequest::Listeners => return Some(self.listeners()),
            UpdateRequest::OtherDisks => return Some(self.other_disks()),
            // It is replied to when somebody else has found the order, or has not.
            UpdateRequest::Reset(order) => {
                // The agent asks one thing at a time: a look that is still under way was asked for by a program that has ended,
                // or has given up waiting, and its process ends when this one takes its place.
                let begins = monotonic_ms().max(self.next_look);
                self.next_look = begins.saturating_add(BETWEEN_ORDERS_MS);
                self.look = Some(Look::begin(self.log, index, order, begins));
                return None;
            }
            UpdateRequest::Announce => self.done(Slots::announce),
            UpdateRequest::Stage => self.done(Slots::stage),
            UpdateRequest::StageApp(id) => match app_store::stage(id) {
                Ok(()) => {
                    self.log.notice(event::APP_STAGED, &format!("a package of {id} is staged"));
                    Reply::Accepted
                }
                Err(error) => {
                    let what = format!("cannot stage the package of {id}");
                    self.log.failure(event::APP_STAGE_FAILED, &what, &error);
                    Reply::Failed
                }
            },
            UpdateRequest::Agree => {
                self.act(Event::Agreed);
                Reply::Accepted
            }
            UpdateRequest::RaiseTime(seconds) => {
                self.clock.raise_signed(self.log, seconds);
                Reply::Accepted
            }
            UpdateRequest::Tell(news) => {
                if let Some(ends) = &mut self.ends {
                    ends.push_update(news);
                }
                Reply::Accepted
            }
            UpdateRequest::Reboot => {
                return self.decide(Event::EndAsked { asking: index, end: End::Reboot });
            }
        };
        alone(reply)
    }

    /// A request about which the reducer decides: the reply to it is one of the effects.
    fn decide(&mut self, request: Event) -> Option<Answer> {
        self.act(request);
        None
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
            // The word of the update agent alone would not do: it reads what the network brings, and whoever takes it over
            // could erase the device.
            Outcome::Confirmed => self.reset(order),
            Outcome::Nowhere => {
                let partitions = order.partitions;
                let text = format!("no card confirms the order to reset {partitions}");
                self.log.warning(event::RESET_ORDER_UNCONFIRMED, &text);
                Reply::Failed
            }
        };
        self.look = None;
        self.reply(asking, &reply, &[]);
    }

    /// Takes an order for the next start, with what has to come through it.
    fn reset(&mut self, order: Order) -> Reply {
        // They lie on `state`, which may be among what is erased. A reset that lowered a floor would let a release or a time
        // back in that this device has left behind (decision 17).
        let kept = Kept {
            os_floor: self.app_uids.os_floor,
            time_floor: self.clock.saved_floor(),
            app_floors: self.app_uids.app_floors(),
        };
        match factory_reset::order(order, kept) {
            Ok(true) => {
                self.act(Event::ResetOrdered { partitions: order.partitions.to_string() });
                Reply::Accepted
            }
            Ok(false) => Reply::NotFound,
            Err(error) => {
                let what = "cannot record the order to reset";
                self.log.failure(event::RESET_ORDER_PERSIST_FAILED, what, &error);
                Reply::Failed
            }
        }
    }

    fn done(&mut self, step: impl FnOnce(&mut Slots, &Log) -> Result<(), SaveError>) -> Reply {
        match step(&mut self.slots, self.log) {
            Ok(()) => Reply::Accepted,
            Err(error) => {
                let what = "cannot change the boot state";
                self.log.failure(event::BOOT_STATE_CHANGE_FAILED, what, &error);
                Reply::Failed
            }
        }
    }

    /// Returns what runs of the OS and of each app of the image, with their floors.
    fn held(&self) -> Vec<Held> {
        let apps = self.apps.iter().map(|id| self.held_of_app(*id));
        std::iter::once(self.slots.held()).chain(apps).collect()
    }

    fn held_of_app(&self, id: ComponentId) -> Held {
        let packages = self.components.iter().filter_map(|c| c.component.package.as_ref());
        let mut of_app = packages.filter(|package| package.header.component_id == id);
        let running = of_app.next().map(|package| Running {
            version: package.header.version,
            rollback_index: package.header.rollback_index,
            root_hash: package.header.root_hash,
            data_bytes: package.header.data_bytes,
            on_trial: package.trial.is_some(),
        });
        let (subject, waits) = (ReleaseSubject::App(id), app_store::waits(id));
        let floor = self.app_uids.of(subject);
        // An app is tried beside an OS that has agreed to itself.
        Held { subject, floor, running, waits, disagreed: false }
    }

    /// Components with grants on the network.
    fn networked(&self) -> impl Iterator<Item = (&Supervised, &NetworkGrants)> {
        self.components.iter().filter_map(|supervised| match &supervised.component.plan.network {
            Network::Granted(grants) => Some((supervised, grants)),
            Network::None | Network::System => None,
        })
    }

    /// Returns the network grants of a component, and a netlink socket in its namespace.
    fn veth(&self, uid: u32) -> Answer {
        let mut networked = self.networked();
        let found = networked.find(|(supervised, _)| supervised.component.uid == uid);
        let Some((supervised, grants)) = found else {
            return (Reply::NotFound, Vec::new());
        };
        // Entering a namespace takes CAP_SYS_ADMIN (setns(2)), which no service has: it gets a socket that was made there.
        let socket = supervised.network.as_ref().map(NetworkNamespace::netlink);
        let name = supervised.component.name.clone();
        let package = supervised.component.package.as_ref();
        match socket {
            Some(Ok(socket)) => {
                let app = NetworkedApp {
                    name,
                    component_id: package.map_or(NO_APP, |package| package.header.component_id),
                    uid,
                    grants: grants.clone(),
                };
                (Reply::Veth(app), vec![socket.into_descriptor()])
            }
            Some(Err(error)) => {
                let what = format!("cannot open a netlink socket for {name}");
                self.log.failure(event::NETLINK_OPEN_FAILED, &what, &error);
                (Reply::Failed, Vec::new())
            }
            None => (Reply::Failed, Vec::new()),
        }
    }

    /// The apps that have to do with updates, and the sockets at which they call.
    fn listeners(&self) -> Answer {
        let (mut apps, mut sockets) = (Vec::new(), Vec::new());
        for supervised in &self.components {
            let Some(updates) = &supervised.updates else {
                continue;
            };
            let Component { name, plan, .. } = &supervised.component;
            match updates.descriptor() {
                Ok(socket) => {
                    apps.push(Listener { name: name.clone(), access: plan.updates });
                    sockets.push(socket);
                }
                Err(error) => {
                    let what = format!("cannot hand over the update socket of {name}");
                    self.log.failure(event::UPDATE_SOCKET_FAILED, &what, &error);
                }
            }
        }
        (Reply::Listeners(apps), sockets)
    }

    fn slot_part(&self, part: Result<OwnedFd, SaveError>) -> Answer {
        match part {
            Ok(descriptor) => (Reply::Accepted, vec![descriptor]),
            // Not a reason to end: the agent writes nothing then, and tries the release again.
            Err(error) => {
                let what = "cannot hand over a partition of a slot";
                self.log.failure(event::SLOT_OPEN_FAILED, what, &error);
                (Reply::Failed, Vec::new())
            }
        }
    }

    /// The disks that the system does not run from, for reading. A reader without a card is none.
    fn other_disks(&self) -> Answer {
        let disks = block::other_disks().unwrap_or_else(|error| {
            self.log.failure(event::CARD_LOOKUP_FAILED, "cannot look for cards", &error);
            Vec::new()
        });
        // The agent cannot open a disk by itself, so that it never has the whole of that which the system runs from.
        let open = disks.iter().filter_map(|path| Direct::open_to_read(path).ok());
        let open = open.map(Direct::into_descriptor).take(wire::MAX_DESCRIPTORS);
        (Reply::Accepted, open.collect())
    }

    /// A socket to the service that has a right: it gets the other end, with this message. A child of init's sees to
    /// it, and replies.
    fn introduce(
        &self,
        asking: usize,
        has_right: impl Fn(Requests) -> bool,
        message: &Reply,
    ) -> Option<Answer> {
        fn wire(service: &Supervised) -> Option<&InitEnd> {
            service.running.as_ref()?.requests.as_ref()
        }
        // By its right and not by its name: which program has it, the image decides.
        let asking = self.components.get(asking).and_then(wire);
        let wanted = self.components.iter().find(|c| has_right(c.component.plan.requests));
        let (Some(asking), Some(wanted)) = (asking, wanted.and_then(wire)) else {
            return alone(Reply::NotFound);
        };
        // All of it before the child is made, which has no way to report a failure.
        let encoded = [message, &Reply::Accepted, &Reply::PermissionDenied].map(wire::encode_reply);
        let [Ok(message), Ok(accepted), Ok(refused)] = &encoded else {
            return alone(Reply::NotFound);
        };
        match (Introduction { wanted, message, asking, accepted, refused }).make() {
            Ok(()) => None,
            Err(error) => {
                let what = "cannot connect two services";
                self.log.failure(event::SERVICE_CONNECT_FAILED, what, &error);
                alone(Reply::Failed)
            }
        }
    }
}

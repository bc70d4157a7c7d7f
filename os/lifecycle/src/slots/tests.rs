use super::*;
use proptest::prelude::*;

fn any_slot() -> impl Strategy<Value = Slot> {
    prop_oneof![Just(Slot::A), Just(Slot::B)]
}

fn any_state() -> impl Strategy<Value = BootState> {
    let of_slot = || (0..=TRIES, any::<bool>()).prop_map(|(tries, good)| SlotState { tries, good });
    (any_slot(), of_slot(), of_slot()).prop_map(|(slot, a, b)| BootState { slot, a, b })
}

#[test]
fn a_staged_release_is_tried_three_times_and_then_the_other_slot_is_taken_for_good() {
    let staged = BootState::factory().announce(Slot::A).unwrap().stage(Slot::A).unwrap();
    assert_eq!(staged.phase(Slot::A), Phase::Staged);
    let mut state = staged;
    for left in [2, 1, 0] {
        let (choice, next) = state.choose();
        assert_eq!((choice, next.b.tries), (Choice::Boot(Slot::B), left));
        assert_eq!(next.phase(Slot::B), Phase::Trying);
        state = next;
    }
    let (choice, state) = state.choose();
    assert_eq!((choice, state.phase(Slot::A)), (Choice::Boot(Slot::A), Phase::FallingBack));
    assert_eq!(state.commit(Slot::A, true), BootState::factory(), "and B is not tried again");
}

#[test]
fn a_healthy_release_is_committed_and_the_former_one_stays_to_fall_back_to() {
    let staged = BootState::factory().announce(Slot::A).unwrap().stage(Slot::A).unwrap();
    let tried = staged.choose().1;
    let committed = tried.commit(Slot::B, true);
    assert_eq!(committed, BootState { slot: Slot::B, a: COMMITTED, b: COMMITTED });
    assert_eq!(committed.phase(Slot::B), Phase::Committed);
    assert_eq!(tried.commit(Slot::B, false).a, UNBOOTABLE, "its rollback index is too low now");
}

#[test]
fn both_slots_exhausted_get_one_last_try_each_and_then_it_halts() {
    let mut state = BootState { slot: Slot::B, a: COMMITTED, b: UNBOOTABLE };
    let mut choices = Vec::new();
    for _ in 0..7 {
        let (choice, next) = state.choose();
        choices.push(choice);
        state = next;
    }
    let (a, b) = (Choice::Boot(Slot::A), Choice::Boot(Slot::B));
    assert_eq!(choices, [a, a, a, a, b, Choice::Halt, a], "behind the halt, the same again");
}

#[test]
fn without_a_valid_copy_each_slot_is_tried_once() {
    let (first, state) = BootState::unknown().choose();
    let (second, state) = state.choose();
    assert_eq!((first, second), (Choice::Boot(Slot::A), Choice::Boot(Slot::B)));
    assert_eq!(state.choose().0, Choice::Halt);
}

#[test]
fn staging_is_refused_while_there_would_be_nothing_to_fall_back_to() {
    let trying = BootState::factory().announce(Slot::A).unwrap().stage(Slot::A).unwrap().choose().1;
    assert_eq!(trying.announce(Slot::B), Err(StageError::OnTrial(Slot::B)));
    assert_eq!(trying.stage(Slot::A), Err(StageError::NotAnnounced(Slot::B)));
}

#[test]
fn a_good_slot_that_is_renewed_never_runs_out_whatever_resets_it() {
    let mut state = BootState::factory();
    for _ in 0..10 {
        let (choice, chosen) = state.choose();
        assert_eq!((choice, chosen.a.tries), (Choice::Boot(Slot::A), TRIES - 1));
        state = chosen.renew(Slot::A, &LastReset::Watchdog);
        assert_eq!(state, BootState::factory());
    }
}

#[test]
fn a_root_that_does_not_verify_uses_up_a_good_slot_too() {
    let mut state = BootState { slot: Slot::B, a: COMMITTED, b: COMMITTED };
    let mut last = LastReset::Orderly;
    let mut chosen = Vec::new();
    for _ in 0..5 {
        let (Choice::Boot(slot), next) = state.choose() else {
            break;
        };
        chosen.push(slot);
        state = next.renew(slot, &last);
        last = LastReset::Verity;
    }
    assert_eq!(chosen, [Slot::B, Slot::B, Slot::B, Slot::B, Slot::A]);
}

#[test]
fn a_slot_on_trial_is_not_renewed_before_it_is_healthy() {
    let trying = BootState::factory().announce(Slot::A).unwrap().stage(Slot::A).unwrap().choose().1;
    assert_eq!(trying.renew(Slot::B, &LastReset::Orderly), trying);
    let last_try = BootState::unknown().choose().1;
    assert_eq!(last_try.renew(Slot::A, &LastReset::PowerOn), last_try);
}

#[test]
fn the_younger_copy_holds_and_the_older_one_is_overwritten() {
    let (one, two) = (BootState::factory(), BootState::unknown());
    for (ages, younger) in
        [((1, 2), 1), ((2, 1), 0), ((255, 0), 1), ((0, 255), 0), ((7, 7), 0), ((254, 255), 1)]
    {
        let copies = Copies::read(&copy(&one, ages.0), &copy(&two, ages.1));
        assert_eq!(copies.younger(), Some(younger), "{ages:?}");
        let (at, bytes) = copies.save(&one);
        assert_eq!(at, 1 - younger);
        let mut both = [copy(&one, ages.0), copy(&two, ages.1)];
        both[at] = bytes;
        assert_eq!(Copies::read(&both[0], &both[1]).younger(), Some(at), "{ages:?}");
    }
    let broken = Copies::read(&[0; COPY_BYTES], &copy(&two, 9));
    assert_eq!((broken.state(), broken.save(&one).0), (Some(two), 0));
    assert_eq!(Copies::read(&[0; 3], &[0xff; COPY_BYTES]).state(), None);
}

/// Taken from a disk on which U-Boot 2023.01 had saved (`env export -c`, then the age).
#[test]
fn bytes_that_u_boot_wrote_are_read_and_written_alike() {
    let state = BootState { a: SlotState { tries: 2, good: true }, ..BootState::factory() };
    let saved = include_bytes!("u-boot-saved.bin");
    assert_eq!(read_copy(saved), Ok((state, 2)));
    assert_eq!(copy(&state, 2), *saved);
}

#[test]
fn a_copy_with_a_valid_crc_and_other_variables_is_refused() {
    let with = |text: &str| {
        let mut bytes = copy(&BootState::factory(), 1);
        bytes[5..].fill(0);
        bytes[5..5 + text.len()].copy_from_slice(text.as_bytes());
        let crc = checksum(&bytes[5..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        read_copy(&bytes)
    };
    with("good_a=1\0good_b=0\0slot=a\0tries_a=3\0tries_b=0\0").unwrap();
    for text in [
        "",
        "good_a=1\0good_b=0\0slot=c\0tries_a=3\0tries_b=0\0",
        "good_a=1\0good_b=0\0slot=a\0tries_a=4\0tries_b=0\0",
        "good_a=1\0good_b=0\0slot=a\0tries_a=03\0tries_b=0\0",
        "good_a=2\0good_b=0\0slot=a\0tries_a=3\0tries_b=0\0",
        "good_b=0\0good_a=1\0slot=a\0tries_a=3\0tries_b=0\0",
        "good_a=1\0good_b=0\0slot=a\0tries_a=3\0tries_b=0\0verify=n\0",
    ] {
        assert_eq!(with(text), Err(CopyError::Variables), "{text:?}");
    }
}

#[test]
fn a_command_line_names_its_release_once() {
    let release = RunningSlot { slot: Slot::B, board: "qemu-virt".to_owned(), rollback_index: 7 };
    let line = format!("console=ttyAMA0 {} quiet", release.words());
    assert_eq!(RunningSlot::from_command_line(&line), Ok(release.clone()));
    for line in [
        "",
        "holdfast.slot=c holdfast.board=x holdfast.rollback=1",
        "holdfast.slot=a holdfast.board=x holdfast.rollback=-1",
        "holdfast.slot=a holdfast.slot=b holdfast.board=x holdfast.rollback=1",
        "holdfast.slots=a holdfast.board=x holdfast.rollback=1",
    ] {
        assert!(RunningSlot::from_command_line(line).is_err(), "{line}");
    }
}

/// What lies in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Empty or half written: the boot loader refuses it.
    Broken,
    /// Boots, and never becomes healthy.
    Sick,
    /// Boots and becomes healthy.
    Healthy,
}

/// A device with its two copies; every save may be cut off before it reaches the medium.
#[derive(Debug, Clone)]
struct Device {
    copies: [[u8; COPY_BYTES]; 2],
    slots: [Content; 2],
    running: Option<Slot>,
}

impl Device {
    fn of(&mut self, slot: Slot) -> &mut Content {
        &mut self.slots[usize::from(slot == Slot::B)]
    }

    fn state(&self) -> BootState {
        Copies::read(&self.copies[0], &self.copies[1]).state().unwrap_or(BootState::unknown())
    }

    /// False when the power was lost before the save.
    fn save(&mut self, state: &BootState, cut: bool) -> bool {
        if cut {
            self.running = None;
            return false;
        }
        let (at, bytes) = Copies::read(&self.copies[0], &self.copies[1]).save(state);
        self.copies[at] = bytes;
        true
    }

    /// From power-on to a running slot, or to a halt.
    fn boot(&mut self, cut: bool) {
        self.running = None;
        let mut state = self.state();
        for _ in 0..16 {
            let (choice, next) = state.choose();
            if !self.save(&next, cut) {
                return;
            }
            let Choice::Boot(slot) = choice else { return };
            if *self.of(slot) != Content::Broken {
                self.running = Some(slot);
                return;
            }
            state = next.does_not_verify(slot);
        }
        unreachable!("the boot loader never comes to an end");
    }

    fn stage(&mut self, content: Content, cut_at: u8) {
        let Some(running) = self.running else { return };
        let Ok(announced) = self.state().announce(running) else { return };
        if !self.save(&announced, cut_at == 0) {
            return;
        }
        *self.of(running.other()) = Content::Broken;
        if cut_at == 1 {
            self.running = None;
            return;
        }
        *self.of(running.other()) = content;
        let staged = self.state().stage(running).unwrap();
        self.save(&staged, cut_at == 2);
    }

    /// What init does when everything critical has been ready for long enough.
    fn become_healthy(&mut self, cut: bool) {
        if let Some(running) = self.running
            && *self.of(running) == Content::Healthy
        {
            let committed = self.state().commit(running, true);
            self.save(&committed, cut);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Boot { cut: bool },
    Healthy { cut: bool },
    Stage { sick: bool, cut_at: u8 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<bool>().prop_map(|cut| Event::Boot { cut }),
        any::<bool>().prop_map(|cut| Event::Healthy { cut }),
        (any::<bool>(), 0u8..5).prop_map(|(sick, cut_at)| Event::Stage { sick, cut_at }),
    ]
}

proptest! {
    /// Renewal gives tries to the slot that runs, and changes nothing else.
    #[test]
    fn renewal_changes_tries_of_the_running_slot_alone(state in any_state(), running in any_slot()) {
        let renewed = state.renew(running, &LastReset::Unknown);
        prop_assert_eq!(renewed.phase(running), state.phase(running));
        prop_assert_eq!(renewed.slot, state.slot);
        prop_assert_eq!(renewed.of(running.other()), state.of(running.other()));
        prop_assert_eq!(renewed.of(running).good, state.of(running).good);
        let expected = if state.of(running).good { TRIES } else { state.of(running).tries };
        prop_assert_eq!(renewed.of(running).tries, expected);
    }

    /// Whatever happens and wherever the power is lost: the slot that was healthy is still there,
    /// is reached when the power stays on, and only what was healthy counts as good.
    #[test]
    fn a_good_slot_stays_bootable(events in proptest::collection::vec(event(), 0..60)) {
        let mut device = Device {
            copies: [copy(&BootState::factory(), 1), [0; COPY_BYTES]],
            slots: [Content::Healthy, Content::Broken],
            running: None,
        };
        for event in events {
            match event {
                Event::Boot { cut } => device.boot(cut),
                Event::Healthy { cut } => device.become_healthy(cut),
                Event::Stage { sick, cut_at } => device.stage(
                    if sick { Content::Sick } else { Content::Healthy }, cut_at),
            }
            let state = device.state();
            for slot in Slot::ALL {
                prop_assert!(!state.of(slot).good || *device.of(slot) == Content::Healthy,
                    "{slot:?} counts as good: {device:?}");
            }
            // With the power on from here, a healthy slot runs within the tries there are. After a
            // halt somebody switches the device off and on.
            let mut later = device.clone();
            let reached = (0..10).any(|_| {
                later.boot(false);
                later.running.is_some_and(|slot| *later.of(slot) == Content::Healthy)
            });
            prop_assert!(reached, "no healthy slot is reached any more: {device:?} {state:?}");
        }
    }

    /// A release that was never healthy is not booted again once the other slot is committed.
    #[test]
    fn a_failed_release_is_not_tried_again(boots in 4usize..24) {
        let mut device = Device {
            copies: [copy(&BootState::factory(), 1), [0; COPY_BYTES]],
            slots: [Content::Healthy, Content::Broken],
            running: Some(Slot::A),
        };
        device.stage(Content::Sick, 9);
        let mut runs = Vec::new();
        for _ in 0..boots {
            device.boot(false);
            device.become_healthy(false);
            runs.push(device.running.unwrap());
        }
        prop_assert_eq!(&runs[..3], &[Slot::B; 3]);
        prop_assert!(runs[3..].iter().all(|slot| *slot == Slot::A));
    }

    #[test]
    fn every_state_is_read_as_it_was_written(state in any_state(), age: u8) {
        prop_assert_eq!(read_copy(&copy(&state, age)), Ok((state, age)));
    }

    #[test]
    fn every_choice_comes_to_an_end(state in any_state(), broken in any::<[bool; 2]>()) {
        let mut state = state;
        for boots in 0.. {
            prop_assert!(boots < 12);
            match state.choose() {
                (Choice::Halt, next) => { prop_assert_eq!(next.choose().0, Choice::Boot(next.slot)); break; }
                (Choice::Boot(slot), next) => {
                    prop_assert!(next.of(slot).tries < TRIES);
                    state = if broken[usize::from(slot == Slot::B)] { next.does_not_verify(slot) } else { next };
                }
            }
        }
    }

    #[test]
    fn one_changed_byte_is_noticed_or_changes_the_age_alone(
        state in any_state(), age: u8, at in 0..COPY_BYTES, change in 1u8..,
    ) {
        let mut bytes = copy(&state, age);
        bytes[at] ^= change;
        match read_copy(&bytes) {
            Ok((read, _)) => prop_assert!(at == 4 && read == state),
            Err(error) => prop_assert_eq!(error, CopyError::Crc),
        }
    }

    #[test]
    fn arbitrary_copies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read_copy(&bytes);
    }
}

#[test]
fn a_command_line_names_the_root() {
    let hash = "5a".repeat(32);
    let line = format!(
        "console=ttyAMA0 dm-mod.create=\"root,,,ro,0 3536 verity 1 PARTLABEL=root-a PARTLABEL=root-a 4096 4096 \
         442 442 sha256 {hash} 00 2 restart_on_corruption\""
    );
    let table = RootTable { data_bytes: 442 * 4096, root_hash: [0x5a; 32] };
    assert_eq!(RootTable::from_command_line(&line), Some(table));
    for wrong in ["", "dm-mod.create=\"root\"", &line.replace("442", "x"), &line.replace("5a", "")]
    {
        assert_eq!(RootTable::from_command_line(wrong), None, "{wrong}");
    }
}

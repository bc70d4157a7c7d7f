//! QEMU's command line for a machine.

use crate::HarnessError;
use crate::armed_watchdog;
use crate::machine::{
    CableEnd, DEBUG_SOCKET, DebugLine, Machine, Network, PROGRAM, Rom, WRITE_LOG, write,
};
use crate::model::Model;
use crate::option_value::{doubled, value};
use crate::settings;
use holdfast_images::show;
use std::path::Path;
use std::process::Command;

/// QEMU's translator with a buffer in MiB. By itself it takes an eighth of the host's memory, up to 1 GiB,
/// for each guest. Each processor of a guest has its part of it, and where one is full all code is translated anew: with
/// 64 MiB a boot took an eighth more of the host's processors.
const ACCELERATOR: &str = "tcg,tb-size=256";

impl Machine {
    /// QEMU with everything but the serial lines.
    pub(crate) fn command(&self, model: Model, directory: &Path) -> Result<Command, HarnessError> {
        let at = |name: &str| directory.join(name);
        let mut command = Command::new(PROGRAM);
        command.args(model.arguments(self.memory_mib)).args(["-display", "none"]);
        command.args(["-accel", ACCELERATOR]);
        command.arg("-drive").arg(self.drive(model, directory));
        // The other machines have all their processors always, whose clocks QEMU cannot count as one.
        if model == Model::Virt {
            match self.counted {
                true => command.args(["-icount", "shift=1,sleep=off"]),
                false => command.args(["-smp", &self.processors.to_string()]),
            };
        }
        if let Some(base) = &self.clock_base {
            command.arg("-rtc").arg(format!("base={base}"));
        }
        if model == Model::OrangePiPc {
            return Ok(command);
        }
        if self.without_boot_loader || model == Model::Imx6ulEvk {
            let boot = show::read_boot(&at("disk.img"))?;
            let kernel = match model {
                Model::Imx6ulEvk => armed_watchdog::before(&boot.kernel),
                _ => boot.kernel,
            };
            write(&at("kernel"), &kernel)?;
            write(&at("device-tree"), &boot.device_tree)?;
            command.arg("-kernel").arg(at("kernel")).arg("-dtb").arg(at("device-tree"));
        } else {
            // The root of trust.
            let flash = at("flash");
            match self.rom {
                Rom::Drive => command
                    .arg("-drive")
                    .arg(format!("if=pflash,unit=0,format=raw,readonly=on,file={}", value(&flash))),
                Rom::Loaded => command.arg("-bios").arg(flash),
            };
        }
        if model != Model::Virt {
            return Ok(command);
        }
        command
            // The board's file knows the controller by this place.
            .args(["-device", "sdhci-pci,addr=1", "-device", "sd-card,drive=disk"])
            .args(["-device", "i6300esb", "-action", "watchdog=reset"])
            .args(["-device", "virtio-serial-pci,max_ports=2", "-device", "virtio-rng-pci"]);
        if let Some(card) = &self.card {
            let card = value(card);
            command
                .arg("-drive")
                .arg(format!("if=none,id=card,format=raw,snapshot=on,file={card}"))
                .args(["-device", "sdhci-pci", "-device", "sd-card,drive=card"]);
        }
        Ok(command)
    }

    /// The network devices, and what is at the other end of their cables.
    pub(crate) fn plug_in(&self, model: Model, command: &mut Command, peer: &Path) {
        for (index, network) in self.networks.iter().enumerate() {
            let forwarded = |forwards: &[(u16, u16)]| {
                let one =
                    |(host, guest): &(u16, u16)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
                forwards.iter().map(one).collect::<String>()
            };
            let plug = match network {
                Network::Peer(_) => {
                    let peer = value(peer);
                    format!("stream,id=net{index},server=off,addr.type=unix,addr.path={peer}")
                }
                Network::User { forwards } => {
                    format!("user,id=net{index}{}", forwarded(forwards))
                }
                Network::Servers { forwards, servers } => {
                    let served = servers.iter().map(|(address, program)| {
                        let program = doubled(program);
                        format!(",guestfwd=tcp:{address}-cmd:{program}")
                    });
                    format!(
                        "user,id=net{index},restrict=on,net=203.0.113.0/24{}{}",
                        forwarded(forwards),
                        served.collect::<String>()
                    )
                }
                Network::Cable { path, end } => {
                    let server = if *end == CableEnd::First { "on" } else { "off" };
                    let path = value(path);
                    format!("stream,id=net{index},server={server},addr.type=unix,addr.path={path}")
                }
            };
            let mac = hardware_address(index, network);
            command.args(["-netdev", &plug]);
            match model {
                Model::Virt => command.arg("-device").arg(format!(
                    "virtio-net-pci,id=network{index},netdev=net{index},mac={mac},romfile="
                )),
                Model::OrangePiPc | Model::Imx6ulEvk => {
                    command.arg("-net").arg(format!("nic,netdev=net{index},macaddr={mac}"))
                }
            };
        }
    }

    /// The disk, as QEMU's `-drive` takes it.
    fn drive(&self, model: Model, directory: &Path) -> String {
        let interface = model.card();
        let disk = directory.join("disk.img");
        let (disk, log) = (value(&disk), value(&directory.join(WRITE_LOG)));
        let aio = if settings::get().io_uring { "io_uring" } else { "threads" };
        // The copy ends with the guest: nobody waits until this host's medium has it.
        let file = |node: &str, path: &str| {
            format!(
                "{node}.driver=file,{node}.filename={path},{node}.aio={aio},{node}.cache.no-flush=on"
            )
        };
        if self.log_writes {
            return format!(
                "{interface},driver=blklogwrites,{},{},log-sector-size=512,\
                 log-super-update-interval=1",
                file("file", &disk),
                file("log", &log)
            );
        }
        if self.lost_sectors.is_empty() {
            return format!("{interface},format=raw,cache=unsafe,aio={aio},file={disk}");
        }
        let mut drive =
            format!("{interface},driver=raw,file.driver=blkdebug,{}", file("file.image", &disk));
        for (index, sector) in self.lost_sectors.iter().enumerate() {
            let rule = format!(",file.inject-error.{index}");
            drive.push_str(&format!(
                "{rule}.event=none{rule}.iotype=write{rule}.errno=5{rule}.sector={sector}"
            ));
        }
        drive
    }
}

/// The hardware address of the network device at a place. The two ends of a cable differ, or neither machine would take what the
/// other sends.
fn hardware_address(index: usize, network: &Network) -> String {
    let is_second = matches!(network, Network::Cable { end: CableEnd::Second, .. });
    let last = index.saturating_add(if is_second { 0xa6 } else { 0x56 });
    format!("52:54:00:12:34:{last:02x}")
}

impl DebugLine {
    /// The line's outer end, as QEMU's `-chardev` takes it.
    pub(crate) fn character_device(self, directory: &Path) -> String {
        let address = match self {
            Self::Tcp(port) => format!("host=127.0.0.1,port={port}"),
            Self::Socket => format!("path={}", value(&directory.join(DEBUG_SOCKET))),
        };
        format!("socket,id=probe,{address},server=on,wait=off")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_comma_is_one_value() {
        let machine = Machine::new(Path::new("hello.img"), 64);
        let directory = Path::new("/tmp/Meier, Anna");
        let drive = machine.drive(Model::Virt, directory);
        assert_eq!(
            drive,
            "if=none,id=disk,format=raw,cache=unsafe,aio=threads,file=/tmp/Meier,, Anna/disk.img"
        );
        let line = DebugLine::Socket.character_device(directory);
        assert_eq!(line, "socket,id=probe,path=/tmp/Meier,, Anna/debug-line,server=on,wait=off");
    }

    #[test]
    fn the_ends_of_a_cable_meet_at_one_socket_and_have_two_addresses() {
        let plugged = |end| {
            let cable = Network::Cable { path: "/tmp/Meier, Anna/cable".into(), end };
            let networks = vec![Network::User { forwards: Vec::new() }, cable];
            let machine = Machine { networks, ..Machine::new(Path::new("hello.img"), 64) };
            let mut command = Command::new(PROGRAM);
            machine.plug_in(Model::Virt, &mut command, Path::new("peer"));
            let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
            words.filter(|word| word.contains("net1")).collect::<Vec<_>>()
        };
        let meet = |server| {
            format!(
                "stream,id=net1,server={server},addr.type=unix,addr.path=/tmp/Meier,, Anna/cable"
            )
        };
        let device = |mac| format!("virtio-net-pci,id=network1,netdev=net1,mac={mac},romfile=");
        assert_eq!(plugged(CableEnd::First), [meet("on"), device("52:54:00:12:34:57")]);
        assert_eq!(plugged(CableEnd::Second), [meet("off"), device("52:54:00:12:34:a7")]);
    }
}

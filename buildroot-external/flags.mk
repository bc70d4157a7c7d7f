################################################################################
#
# Generated from builder/src/device_build.rs and sources.lock: cargo test -p holdfast-builder --test buildroot
#
################################################################################

HOLDFAST_WORKSPACE_VERSION = 0.1.0
HOLDFAST_TARGET = armv7-unknown-linux-musleabihf
HOLDFAST_TARGET_WORD = armv7_unknown_linux_musleabihf
HOLDFAST_CARGO_OPTS = -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size --profile device --target armv7-unknown-linux-musleabihf
HOLDFAST_CARGO_ENV = RUSTC_BOOTSTRAP=1 RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
HOLDFAST_RUSTFLAGS = -Clink-self-contained=no -Ctarget-cpu=cortex-a8 -Ctarget-feature=+thumb-mode -Cforce-unwind-tables=no -Clink-arg=-Wl,--build-id=0x0000000000000000000000000000000000000000
HOLDFAST_CFLAGS = -Os -mthumb -fstack-protector-strong -D_TIME_BITS=64
HOLDFAST_LINUX_VERSION = 6.12.117-1~deb12u1
HOLDFAST_LINUX_SHA256 = 585a4a074597aefa2b1a68ada83a3184ba351c127544dea80618bbcceaa3961f
HOLDFAST_UBOOT_VERSION = 2023.01+dfsg-2+deb12u3
HOLDFAST_UBOOT_SHA256 = baf9a1492456920ff66b00fdd19ce8c588261bc2698b4875c9f5fdcfb1332aae

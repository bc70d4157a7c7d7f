################################################################################
#
# How the programs of Holdfast are built
#
################################################################################

HOLDFAST_CHECKOUT = $(realpath $(BR2_EXTERNAL_HOLDFAST_PATH)/..)
HOLDFAST_VERSION = $(HOLDFAST_WORKSPACE_VERSION)
HOLDFAST_BOARD = $(call qstrip,$(BR2_HOLDFAST_BOARD))
HOLDFAST_IMAGE = $(call qstrip,$(BR2_HOLDFAST_IMAGE))
HOLDFAST_MORE_APPS = $(call qstrip,$(BR2_HOLDFAST_APPS))
HOLDFAST_HOST_TOOL = $(or $(call qstrip,$(BR2_HOLDFAST_TOOL)),$(HOST_DIR)/bin/holdfast)
HOLDFAST_HOST_TOOL_PACKAGE = $(if $(call qstrip,$(BR2_HOLDFAST_TOOL)),,host-holdfast-tool)

# What a caller may have set for his own cargo, and would change programs here or
# put them elsewhere.
unexport CARGO CARGO_BUILD_BUILD_DIR CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS
unexport CARGO_TARGET_DIR RUSTC RUSTC_WORKSPACE_WRAPPER RUSTC_WRAPPER RUSTFLAGS
unexport RUSTUP_TOOLCHAIN

# A checkout has what cargo has built in it, and keys that are nobody else's; and
# where somebody has put it there, what Buildroot builds and downloads.
HOLDFAST_RSYNC_EXCLUSIONS = \
	--exclude /target \
	--exclude /fuzz/target \
	--exclude /images/keys \
	--exclude /buildroot-external \
	$(patsubst $(HOLDFAST_CHECKOUT)/%,--exclude /%,\
		$(filter $(HOLDFAST_CHECKOUT)/%,$(BASE_DIR) $(DL_DIR)))

# Where cargo finds all crates, those of std included.
HOLDFAST_CARGO_HOME = $(HOST_DIR)/share/holdfast

# All programs share what is built of std, for which they have to have the same
# flags. Directories of this build are named in programs as they are in every
# other; of several that fit, compilers take the last one.
HOLDFAST_TARGET_DIR = $(BUILD_DIR)/holdfast-cargo
HOLDFAST_PLACES = \
	$(HOST_DIR)=/host \
	$(HOLDFAST_CARGO_HOME)/crates=/cargo \
	$(HOST_DIR)/lib/rustlib/src/rust/library=/rust/library \
	$(HOLDFAST_TARGET_DIR)=/holdfast/target \
	$(HOLDFAST_INIT_DIR)=/holdfast \
	$(HOLDFAST_SERVICES_DIR)=/holdfast \
	$(HOLDFAST_APPS_DIR)=/holdfast

# Buildroot lets libgcc and Rust's own compiler-rt define the same symbols. In
# support/lib, what std links as libunwind is gcc's unwinder.
HOLDFAST_ALL_RUSTFLAGS = \
	$(HOLDFAST_RUSTFLAGS) \
	-Clink-arg=-Wl,--allow-multiple-definition \
	-Lnative=$(BR2_EXTERNAL_HOLDFAST_PATH)/support/lib \
	$(addprefix --remap-path-prefix=,$(HOLDFAST_PLACES))

HOLDFAST_ALL_CFLAGS = \
	$(HOLDFAST_CFLAGS) \
	$(addprefix -ffile-prefix-map=,$(HOLDFAST_PLACES))

HOLDFAST_BUILD_ENV = \
	$(TARGET_MAKE_ENV) \
	$(TARGET_CONFIGURE_OPTS) \
	$(PKG_CARGO_ENV) \
	$(HOLDFAST_CARGO_ENV) \
	CARGO_BUILD_JOBS=$(PARALLEL_JOBS) \
	RUSTFLAGS="$(HOLDFAST_ALL_RUSTFLAGS)" \
	CC_$(HOLDFAST_TARGET_WORD)="$(TARGET_CC)" \
	AR_$(HOLDFAST_TARGET_WORD)="$(TARGET_AR)" \
	CFLAGS_$(HOLDFAST_TARGET_WORD)="$(HOLDFAST_ALL_CFLAGS)"

# cargo's configuration of a checkout's copy, with the crates of this build.
define HOLDFAST_USE_CRATES
	grep -q vendored-sources $(@D)/.cargo/config.toml || \
		cat $(HOLDFAST_CARGO_HOME)/cargo.toml >>$(@D)/.cargo/config.toml
endef

# $(1): programs are built that go below this directory of a device
define HOLDFAST_BUILD_PROGRAMS
	$(HOLDFAST_HOST_TOOL) --checkout $(HOLDFAST_CHECKOUT) image programs \
		--image $(HOLDFAST_IMAGE) $(addprefix --app ,$(HOLDFAST_MORE_APPS)) \
		>$(@D)/holdfast-programs
	cd $(@D) && \
		$(HOLDFAST_BUILD_ENV) \
		$(BR2_EXTERNAL_HOLDFAST_PATH)/support/build-programs.sh \
			$(@D)/holdfast-programs $(1) \
			$(HOLDFAST_TARGET_DIR)/$(HOLDFAST_TARGET)/device \
			$(@D)/holdfast-built \
			build --offline --locked $(HOLDFAST_CARGO_OPTS) \
			--target-dir $(HOLDFAST_TARGET_DIR)
endef

# With their symbols, and not to the target directory, where Buildroot would
# strip them: `image assemble` does that as for every image, gives them their
# build ids, and keeps the symbols beside the image.
define HOLDFAST_INSTALL_PROGRAMS
	mkdir -p $(@D)/holdfast-built $(BINARIES_DIR)/holdfast-programs
	cp -a $(@D)/holdfast-built/. $(BINARIES_DIR)/holdfast-programs/
endef

# The packages that are switched on and have programs for the device.
HOLDFAST_PROGRAM_PACKAGES = \
	$(if $(BR2_PACKAGE_HOLDFAST_INIT),HOLDFAST_INIT) \
	$(if $(BR2_PACKAGE_HOLDFAST_SERVICES),HOLDFAST_SERVICES) \
	$(if $(BR2_PACKAGE_HOLDFAST_APPS),HOLDFAST_APPS)

# What board/holdfast/post-image.sh reads.
export HOLDFAST_CHECKOUT HOLDFAST_BOARD HOLDFAST_IMAGE HOLDFAST_MORE_APPS HOLDFAST_HOST_TOOL

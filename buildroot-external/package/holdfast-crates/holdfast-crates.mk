################################################################################
#
# holdfast-crates
#
################################################################################

# All crates that Cargo.lock names, and those that std is made of. cargo checks
# each by the hash in a Cargo.lock, and keeps it in the download directory.
HOLDFAST_CRATES_VERSION = $(HOLDFAST_VERSION)
HOLDFAST_CRATES_SITE = $(HOLDFAST_CHECKOUT)
HOLDFAST_CRATES_SITE_METHOD = local
HOST_HOLDFAST_CRATES_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(HOLDFAST_RSYNC_EXCLUSIONS)
HOLDFAST_CRATES_LICENSE = Apache-2.0 or MIT
HOLDFAST_CRATES_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
HOLDFAST_CRATES_REDISTRIBUTE = NO
HOST_HOLDFAST_CRATES_DEPENDENCIES = host-rustc host-holdfast-rust-src

define HOST_HOLDFAST_CRATES_BUILD_CMDS
	cd $(@D) && \
		$(HOST_MAKE_ENV) $(PKG_COMMON_CARGO_ENV) RUSTC_BOOTSTRAP=1 \
		cargo vendor --locked --versioned-dirs \
			--sync `$(HOST_MAKE_ENV) rustc --print sysroot`/lib/rustlib/src/rust/library/Cargo.toml \
			$(@D)/crates >$(@D)/cargo.toml
endef

define HOST_HOLDFAST_CRATES_INSTALL_CMDS
	mkdir -p $(HOLDFAST_CARGO_HOME)
	rm -rf $(HOLDFAST_CARGO_HOME)/crates
	cp -a $(@D)/crates $(HOLDFAST_CARGO_HOME)/
	sed 's|$(@D)/crates|$(HOLDFAST_CARGO_HOME)/crates|' $(@D)/cargo.toml \
		>$(HOLDFAST_CARGO_HOME)/cargo.toml
endef

$(eval $(host-generic-package))

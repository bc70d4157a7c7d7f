################################################################################
#
# holdfast-rust-src
#
################################################################################

# The sources of std, of the release that the compiler is of: Buildroot's
# prebuilt Rust comes without them.
HOLDFAST_RUST_SRC_VERSION = $(RUST_VERSION)
HOLDFAST_RUST_SRC_SITE = $(RUST_SITE)
HOLDFAST_RUST_SRC_SOURCE = rustc-$(HOLDFAST_RUST_SRC_VERSION)-src.tar.xz
HOLDFAST_RUST_SRC_DL_SUBDIR = rust
HOLDFAST_RUST_SRC_LICENSE = Apache-2.0 or MIT
HOLDFAST_RUST_SRC_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
HOST_HOLDFAST_RUST_SRC_DEPENDENCIES = host-rustc

# Of two gigabytes.
define HOST_HOLDFAST_RUST_SRC_EXTRACT_CMDS
	$(XZCAT) $(HOST_HOLDFAST_RUST_SRC_DL_DIR)/$(HOLDFAST_RUST_SRC_SOURCE) | \
		$(TAR) --strip-components=1 -C $(@D) $(TAR_OPTIONS) - \
			--wildcards '*-src/library' '*-src/LICENSE-*'
endef

define HOST_HOLDFAST_RUST_SRC_INSTALL_CMDS
	mkdir -p $(HOST_DIR)/lib/rustlib/src/rust
	rm -rf $(HOST_DIR)/lib/rustlib/src/rust/library
	cp -a $(@D)/library $(HOST_DIR)/lib/rustlib/src/rust/
endef

$(eval $(host-generic-package))

################################################################################
#
# holdfast-tool
#
################################################################################

HOLDFAST_TOOL_VERSION = $(HOLDFAST_VERSION)
HOLDFAST_TOOL_SITE = $(HOLDFAST_CHECKOUT)
HOLDFAST_TOOL_SITE_METHOD = local
HOST_HOLDFAST_TOOL_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(HOLDFAST_RSYNC_EXCLUSIONS)
HOLDFAST_TOOL_LICENSE = Apache-2.0 or MIT
HOLDFAST_TOOL_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
HOLDFAST_TOOL_REDISTRIBUTE = NO
HOST_HOLDFAST_TOOL_DEPENDENCIES = host-holdfast-crates

define HOST_HOLDFAST_TOOL_CONFIGURE_CMDS
	$(HOLDFAST_USE_CRATES)
endef

define HOST_HOLDFAST_TOOL_BUILD_CMDS
	cd $(@D) && \
		$(HOST_MAKE_ENV) $(HOST_CONFIGURE_OPTS) $(HOST_PKG_CARGO_ENV) \
		CARGO_BUILD_JOBS=$(PARALLEL_JOBS) \
		cargo build --offline --locked --release --package holdfast
endef

define HOST_HOLDFAST_TOOL_INSTALL_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/release/holdfast $(HOST_DIR)/bin/holdfast
endef

$(eval $(host-cargo-package))

################################################################################
#
# holdfast-init
#
################################################################################

HOLDFAST_INIT_VERSION = $(HOLDFAST_VERSION)
HOLDFAST_INIT_SITE = $(HOLDFAST_CHECKOUT)
HOLDFAST_INIT_SITE_METHOD = local
HOLDFAST_INIT_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(HOLDFAST_RSYNC_EXCLUSIONS)
HOLDFAST_INIT_LICENSE = Apache-2.0 or MIT
HOLDFAST_INIT_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
# The image's bill of materials names its sources.
HOLDFAST_INIT_REDISTRIBUTE = NO
HOLDFAST_INIT_INSTALL_TARGET = NO
HOLDFAST_INIT_INSTALL_IMAGES = YES
HOLDFAST_INIT_DEPENDENCIES = host-holdfast-crates $(HOLDFAST_HOST_TOOL_PACKAGE)

define HOLDFAST_INIT_CONFIGURE_CMDS
	$(HOLDFAST_USE_CRATES)
endef

define HOLDFAST_INIT_BUILD_CMDS
	$(call HOLDFAST_BUILD_PROGRAMS,sbin/)
endef

define HOLDFAST_INIT_INSTALL_IMAGES_CMDS
	$(HOLDFAST_INSTALL_PROGRAMS)
endef

# The kernel's configuration, behind all that Buildroot changes in it.
define HOLDFAST_INIT_LINUX_CONFIG_FIXUPS
	$(call HOLDFAST_CONFIGURE,LINUX)
endef

$(eval $(cargo-package))

################################################################################
#
# holdfast-apps
#
################################################################################

HOLDFAST_APPS_VERSION = $(HOLDFAST_VERSION)
HOLDFAST_APPS_SITE = $(HOLDFAST_CHECKOUT)
HOLDFAST_APPS_SITE_METHOD = local
HOLDFAST_APPS_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(HOLDFAST_RSYNC_EXCLUSIONS)
HOLDFAST_APPS_LICENSE = Apache-2.0 or MIT
HOLDFAST_APPS_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
# The image's bill of materials names its sources.
HOLDFAST_APPS_REDISTRIBUTE = NO
HOLDFAST_APPS_INSTALL_TARGET = NO
HOLDFAST_APPS_INSTALL_IMAGES = YES
HOLDFAST_APPS_DEPENDENCIES = host-holdfast-crates $(HOLDFAST_HOST_TOOL_PACKAGE)

define HOLDFAST_APPS_CONFIGURE_CMDS
	$(HOLDFAST_USE_CRATES)
endef

define HOLDFAST_APPS_BUILD_CMDS
	$(call HOLDFAST_BUILD_PROGRAMS,usr/lib/holdfast/apps/)
endef

define HOLDFAST_APPS_INSTALL_IMAGES_CMDS
	$(HOLDFAST_INSTALL_PROGRAMS)
endef

$(eval $(cargo-package))

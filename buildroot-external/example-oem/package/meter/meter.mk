################################################################################
#
# meter
#
################################################################################

METER_VERSION = 1.0.0
METER_SITE = $(METER_PKGDIR)/src
METER_SITE_METHOD = local
METER_LICENSE = Apache-2.0 or MIT
METER_LICENSE_FILES = meter.c

define METER_BUILD_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) $(TARGET_CONFIGURE_OPTS) -C $(@D)
endef

define METER_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/meter $(TARGET_DIR)/usr/bin/meter
	$(INSTALL) -D -m 0755 $(@D)/libreading.so.1 $(TARGET_DIR)/usr/lib/libreading.so.1
	$(INSTALL) -D -m 0644 $(@D)/unit $(TARGET_DIR)/usr/share/meter/unit
endef

$(eval $(generic-package))

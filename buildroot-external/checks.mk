################################################################################
#
# What a configuration must hold, said before anything is built
#
################################################################################

ifeq ($(BR_BUILDING),y)

ifneq ($(BR2_arm)$(BR2_TOOLCHAIN_USES_MUSL),yy)
$(error Holdfast: the toolchain is not one for ARM with musl; choose Target Architecture "ARM (little endian)" and C library "musl")
endif

ifneq ($(BR2_INSTALL_LIBSTDCPP),y)
$(error Holdfast: the toolchain has no C++, which Buildroot wants for Rust with musl; switch on BR2_TOOLCHAIN_BUILDROOT_CXX, or BR2_TOOLCHAIN_EXTERNAL_CXX)
endif

ifneq ($(BR2_PACKAGE_HOLDFAST_INIT)$(BR2_PACKAGE_HOLDFAST_SERVICES),yy)
$(error Holdfast: an image has PID 1 and services; switch on BR2_PACKAGE_HOLDFAST_INIT and BR2_PACKAGE_HOLDFAST_SERVICES)
endif

ifneq ($(BR2_INIT_NONE),y)
$(error Holdfast: PID 1 is holdfast-init and nothing else; choose Init system "Custom (none)", BR2_INIT_NONE)
endif

ifeq ($(BR2_PACKAGE_BUSYBOX),y)
$(error Holdfast: BusyBox is switched on, and a device has no shell; switch BR2_PACKAGE_BUSYBOX off)
endif

ifeq ($(BR2_TARGET_GENERIC_GETTY),y)
$(error Holdfast: a getty is switched on, and nobody logs in to a device; switch BR2_TARGET_GENERIC_GETTY off)
endif

ifneq ($(call qstrip,$(BR2_ROOTFS_USERS_TABLES)),)
$(error Holdfast: BR2_ROOTFS_USERS_TABLES names accounts, and a device has none; leave it empty)
endif

ifeq ($(wildcard $(HOLDFAST_CHECKOUT)/images/boards/$(HOLDFAST_BOARD).toml),)
$(error Holdfast: BR2_HOLDFAST_BOARD: there is no board `$(HOLDFAST_BOARD)`; images/boards has $(patsubst %.toml,%,$(notdir $(wildcard $(HOLDFAST_CHECKOUT)/images/boards/*.toml))))
endif

ifeq ($(wildcard $(HOLDFAST_IMAGE)),)
$(error Holdfast: BR2_HOLDFAST_IMAGE: there is no image manifest `$(HOLDFAST_IMAGE)`)
endif

$(foreach app,$(HOLDFAST_MORE_APPS),\
	$(if $(wildcard $(app)),,$(error Holdfast: BR2_HOLDFAST_APPS: there is no app `$(app)`)))

endif

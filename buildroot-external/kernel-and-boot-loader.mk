################################################################################
#
# Kernel and boot loader, configured as kernel-config/ and boot-loader/ say
#
################################################################################

# The fragments say everything: what they do not ask for is off, and not as
# Kconfig has it by default (allnoconfig). $(1): the package in upper case,
# $(2): more lines
define HOLDFAST_CONFIGURE
	cat $($(1)_KCONFIG_FILE) $($(1)_KCONFIG_FRAGMENT_FILES) \
		>$($(1)_DIR)/.holdfast-fragments
	printf '%s\n' $(2) >>$($(1)_DIR)/.holdfast-fragments
	$($(1)_KCONFIG_MAKE) allnoconfig \
		KCONFIG_ALLCONFIG=$($(1)_DIR)/.holdfast-fragments
endef

# U-Boot's source as Debian has it, with Debian's patches, in one archive whose
# hash is known.
define HOLDFAST_UBOOT_SOURCE
	test -e $(UBOOT_DL_DIR)/$(UBOOT_SOURCE) || \
		$(BR2_EXTERNAL_HOLDFAST_PATH)/support/u-boot-source.sh \
			$(HOLDFAST_UBOOT_VERSION) $(HOLDFAST_UBOOT_SHA256) \
			$(UBOOT_DL_DIR)/$(UBOOT_SOURCE)
endef
UBOOT_PRE_DOWNLOAD_HOOKS += HOLDFAST_UBOOT_SOURCE

UBOOT_KCONFIG_FIXUP_CMDS += $(sep)$(call HOLDFAST_CONFIGURE,UBOOT,$(HOLDFAST_UBOOT_ENVIRONMENT))
HOLDFAST_UBOOT_ENVIRONMENT = 'CONFIG_DEFAULT_ENV_FILE="$(HOLDFAST_CHECKOUT)/boot-loader/environment"'

# The same bytes wherever and whenever it is built. What is not put into an
# image is not made.
UBOOT_MAKE_OPTS += \
	SOURCE_DATE_EPOCH=0 \
	KCFLAGS=-ffile-prefix-map=$(UBOOT_DIR)=.
UBOOT_MAKE_TARGET = u-boot-nodtb.bin $(HOLDFAST_UBOOT_DTB) $(HOLDFAST_FIRST_STAGE_TARGET)

# The first stage of a spare copy, which differs by its configuration.
define HOLDFAST_UBOOT_SPARE
	cp $(@D)/.config $(@D)/.holdfast-config
	cat $(HOLDFAST_SPARE_FRAGMENTS) >>$(@D)/.holdfast-fragments
	$(UBOOT_KCONFIG_MAKE) allnoconfig \
		KCONFIG_ALLCONFIG=$(@D)/.holdfast-fragments
	$(TARGET_CONFIGURE_OPTS) $(UBOOT_MAKE) -C $(@D) $(UBOOT_MAKE_OPTS) \
		$(HOLDFAST_FIRST_STAGE_TARGET)
	cp $(@D)/$(HOLDFAST_FIRST_STAGE) $(BINARIES_DIR)/spare-first-stage
	cp $(@D)/.config $(@D)/.holdfast-spare-config
	cp $(@D)/.holdfast-config $(@D)/.config
endef
ifneq ($(HOLDFAST_SPARE_FRAGMENTS),)
UBOOT_POST_INSTALL_IMAGES_HOOKS += HOLDFAST_UBOOT_SPARE
endif

# What board/holdfast/post-image.sh reads.
HOLDFAST_LINUX_DIR = $(LINUX_DIR)
HOLDFAST_UBOOT_DIR = $(UBOOT_DIR)
HOLDFAST_PROGRAMS_DIR = $(HOLDFAST_INIT_DIR)
HOLDFAST_PROGRAM_LISTS = $(foreach p,$(HOLDFAST_PROGRAM_PACKAGES),$($(p)_DIR)/holdfast-programs)
HOLDFAST_COMPILER = $(TARGET_CC)
HOLDFAST_STRIP = $(TARGET_CROSS)strip
HOLDFAST_MUSL_DIR = $(if $(BR2_TOOLCHAIN_BUILDROOT),$(MUSL_DIR))
export HOLDFAST_LINUX_DIR HOLDFAST_UBOOT_DIR HOLDFAST_PROGRAMS_DIR HOLDFAST_PROGRAM_LISTS
export HOLDFAST_COMPILER HOLDFAST_STRIP HOLDFAST_MUSL_DIR
export HOLDFAST_LINUX_DTB HOLDFAST_UBOOT_DTB HOLDFAST_FIRST_STAGE HOLDFAST_SPARE_FRAGMENTS
export HOLDFAST_LINUX_VERSION HOLDFAST_LINUX_SHA256
export HOLDFAST_UBOOT_VERSION HOLDFAST_UBOOT_SHA256

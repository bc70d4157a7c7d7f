/* SPDX-License-Identifier: Apache-2.0 OR MIT */

/* Returns what the meter reads, in the unit of /usr/share/meter/unit. */
int reading(void);

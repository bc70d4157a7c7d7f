/* SPDX-License-Identifier: Apache-2.0 OR MIT */

#include "reading.h"

int reading(void)
{
	static int last;

	return ++last;
}

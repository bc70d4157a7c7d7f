/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Prints a reading every second: a program with a library and a file of its own, all of which come into an app
 * from Buildroot's target directory.
 */

#include "reading.h"

#include <stdio.h>
#include <unistd.h>

int main(void)
{
	char unit[16] = "";
	FILE *file = fopen("/usr/share/meter/unit", "r");

	if (!file || fscanf(file, "%15s", unit) != 1) {
		perror("/usr/share/meter/unit");
		return 1;
	}
	fclose(file);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		printf("reading %d %s\n", reading(), unit);
		sleep(1);
	}
}

/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Prints a reading every second: a program with a library and a file of its own, all of which come into an app
 * from Buildroot's target directory. The argument names the file, which an app has below /app.
 */

#include "reading.h"

#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "/usr/share/meter/unit";
	char unit[16] = "";
	FILE *file = fopen(path, "r");

	if (!file || fscanf(file, "%15s", unit) != 1) {
		perror(path);
		return 1;
	}
	fclose(file);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		printf("reading %d %s\n", reading(), unit);
		sleep(1);
	}
}

/* Milliseconds from the exec of a program to the first byte that a host behind its tunnel echoes.
 * Usage: start ADDRESS PORT [-u IFNAME REQUEST INNER-ADDRESS] PROGRAM ARGUMENT...
 * With -u the file REQUEST is written to the program's configuration socket once it is there, and
 * the link gets its address; without, the program does all by itself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000 };

static struct timespec began;

static double elapsed_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - began.tv_sec) * 1e3 + (now.tv_nsec - began.tv_nsec) / 1e6;
}

static int configure(const char *name, const char *request)
{
	static char text[1 << 16];
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int file = open(request, O_RDONLY), control;
	ssize_t length = read(file, text, sizeof text);

	close(file);
	snprintf(at.sun_path, sizeof at.sun_path, "/var/run/wireguard/%s.sock", name);
	for (;;) {
		control = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(control, (struct sockaddr *)&at, sizeof at) == 0)
			break;
		close(control);
		if (elapsed_ms() > PATIENCE_MS)
			return -1;
		usleep(200);
	}
	if (length <= 0 || write(control, text, length) != length)
		return -1;
	length = read(control, text, sizeof text - 1);
	close(control);
	return length > 0 && memmem(text, length, "errno=0", 7) ? 0 : -1;
}

static int set_up(const char *name, const char *address)
{
	struct ifreq link = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&link.ifr_addr;
	int any = socket(AF_INET, SOCK_DGRAM, 0), failed;

	snprintf(link.ifr_name, sizeof link.ifr_name, "%s", name);
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	failed = ioctl(any, SIOCSIFADDR, &link);
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	failed |= ioctl(any, SIOCSIFNETMASK, &link);
	failed |= ioctl(any, SIOCGIFFLAGS, &link);
	link.ifr_flags |= IFF_UP;
	failed |= ioctl(any, SIOCSIFFLAGS, &link);
	close(any);
	return failed;
}

/* Asks every millisecond, with a socket of its own while there is no way yet. */
static int await_echo(const char *address, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	char byte[4] = "echo";

	inet_pton(AF_INET, address, &to.sin_addr);
	while (elapsed_ms() < PATIENCE_MS) {
		int udp = socket(AF_INET, SOCK_DGRAM, 0);
		struct pollfd answer = { .fd = udp, .events = POLLIN };

		if (connect(udp, (struct sockaddr *)&to, sizeof to) == 0) {
			while (send(udp, byte, sizeof byte, 0) > 0 && elapsed_ms() < PATIENCE_MS)
				if (poll(&answer, 1, 1) == 1 && recv(udp, byte, sizeof byte, 0) > 0)
					return 0;
		}
		close(udp);
		usleep(500);
	}
	return -1;
}

int main(int argc, char **argv)
{
	char **device = argc > 6 && strcmp(argv[3], "-u") == 0 ? argv + 4 : NULL;
	char **program = device ? argv + 7 : argv + 3;
	int failed = 0;
	pid_t child;

	if (argc < 4 || !*program)
		return 64;
	clock_gettime(CLOCK_MONOTONIC, &began);
	child = fork();
	if (child == 0) {
		execv(program[0], program);
		_exit(127);
	}
	if (device)
		failed = configure(device[0], device[1]) || set_up(device[0], device[2]);
	failed = failed || await_echo(argv[1], atoi(argv[2]));
	if (!failed)
		printf("%.1f\n", elapsed_ms());
	kill(child, SIGTERM);
	waitpid(child, NULL, 0);
	return failed ? 1 : 0;
}

/* Clients that want much or little, and one that lies.
 * Usage: hostile idle ADDRESS COUNT    connections that ask once, have their answer, and stay
 *        hostile slow ADDRESS COUNT    connections that send a byte now and then, and as many that
 *                                      ask without end and never read
 *        hostile spoof ADDRESS PORT... answers in the name of ADDRESS, port 53, with random IDs to
 *                                      these ports of it, as fast as can be
 * Each runs until it is ended; `idle` prints a line when all have their answers. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADERS = sizeof(struct iphdr) + sizeof(struct udphdr), MOST = 2000, ROUND_US = 100000 };

/* kept0.bench.example, A, behind its length as TCP has it. */
static const unsigned char question[] = "\0\045\1\2\1\0\0\1\0\0\0\0\0\0"
					"\5kept0\5bench\7example\0\0\1\0\1";
enum { QUESTION = sizeof question - 1 };

static struct sockaddr_in at(const char *address, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, address, &to.sin_addr);
	return to;
}

static int connected(const char *address)
{
	struct sockaddr_in to = at(address, 53);
	int tcp = socket(AF_INET, SOCK_STREAM, 0);

	if (tcp < 0 || connect(tcp, (struct sockaddr *)&to, sizeof to) < 0)
		exit(1);
	return tcp;
}

static int idle(const char *address, int count)
{
	unsigned char answer[512];

	for (int i = 0; i < count; i++) {
		int tcp = connected(address);

		if (write(tcp, question, QUESTION) != QUESTION || read(tcp, answer, sizeof answer) <= 0)
			return 1;
	}
	printf("asked\n");
	fflush(stdout);
	pause();
	return 0;
}

static int slow(const char *address, int count)
{
	static int dripping[MOST], deaf[MOST];

	for (int i = 0; i < count && i < MOST; i++) {
		dripping[i] = connected(address);
		deaf[i] = connected(address);
	}
	for (unsigned round = 0;; round++) {
		for (int i = 0; i < count && i < MOST; i++) {
			/* One that was closed comes back. */
			if (send(dripping[i], question + round % QUESTION, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
			    errno != EAGAIN) {
				close(dripping[i]);
				dripping[i] = connected(address);
			}
			send(deaf[i], question, QUESTION, MSG_NOSIGNAL | MSG_DONTWAIT);
		}
		usleep(ROUND_US);
	}
}

static int spoof(const char *address, int count, char **ports)
{
	static unsigned char packet[HEADERS + QUESTION - 2 + 16];
	struct iphdr *ip = (struct iphdr *)packet;
	struct udphdr *udp = (struct udphdr *)(ip + 1);
	unsigned char *answer = (unsigned char *)(udp + 1);
	struct sockaddr_in to = at(address, 0);
	int raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	ip->version = 4;
	ip->ihl = sizeof *ip / 4;
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->saddr = ip->daddr = to.sin_addr.s_addr;
	udp->source = htons(53);
	udp->len = htons(sizeof packet - sizeof *ip);
	memcpy(answer, question + 2, QUESTION - 2);
	answer[2] |= 0x80;
	answer[7] = 1;
	memcpy(answer + QUESTION - 2, "\300\014\0\1\0\1\0\0\0\74\0\4\306\63\144\1", 16);
	for (unsigned i = 0; count; i++) {
		udp->dest = htons(atoi(ports[i % count]));
		answer[0] = random();
		answer[1] = random();
		if (sendto(raw, packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to) < 0 && errno != EPERM &&
		    errno != ENOBUFS)
			return 1;
	}
	return 64;
}

int main(int argc, char **argv)
{
	struct rlimit files = { 4096, 4096 };

	setrlimit(RLIMIT_NOFILE, &files);
	if (argc > 3 && strcmp(argv[1], "idle") == 0)
		return idle(argv[2], atoi(argv[3]));
	if (argc > 3 && strcmp(argv[1], "slow") == 0)
		return slow(argv[2], atoi(argv[3]));
	if (argc > 3 && strcmp(argv[1], "spoof") == 0)
		return spoof(argv[2], argc - 3, argv + 3);
	return 64;
}

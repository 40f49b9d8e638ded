/* The floor of a DNS server on plain sockets: sends each UDP datagram back as an answer, with
 * recvmmsg(2) and sendmmsg(2) and nothing else. Usage: echo ADDRESS PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, LONGEST = 1500 };

int main(int argc, char **argv)
{
	static struct mmsghdr headers[BATCH];
	static struct iovec vectors[BATCH];
	static struct sockaddr_in peers[BATCH];
	static unsigned char buffers[BATCH][LONGEST];
	struct sockaddr_in local = { .sin_family = AF_INET };
	int udp = socket(AF_INET, SOCK_DGRAM, 0), room = 1 << 20;

	if (argc != 3 || udp < 0 || inet_pton(AF_INET, argv[1], &local.sin_addr) != 1)
		return 64;
	local.sin_port = htons(atoi(argv[2]));
	setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
	if (bind(udp, (struct sockaddr *)&local, sizeof local) < 0)
		return 1;
	for (int i = 0; i < BATCH; i++) {
		headers[i].msg_hdr.msg_name = &peers[i];
		headers[i].msg_hdr.msg_iov = &vectors[i];
		headers[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			headers[i].msg_hdr.msg_namelen = sizeof peers[i];
			vectors[i] = (struct iovec){ buffers[i], LONGEST };
		}
		int count = recvmmsg(udp, headers, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < count; i++) {
			vectors[i].iov_len = headers[i].msg_len;
			if (headers[i].msg_len > 2)
				buffers[i][2] |= 0x80;
		}
		for (int done = 0; done < count;) {
			int sent = sendmmsg(udp, headers + done, count - done, 0);
			done += sent > 0 ? sent : 1;
		}
	}
}

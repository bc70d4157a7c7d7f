/* The device's identity for apps: connections by TLS 1.3 with a certificate of the app's own, whose key stays with the device.
 *
 * An app whose manifest asks for DeviceAuthentication has such a certificate, renewed while it runs. Each connection uses the
 * newest. No session is resumed, so that every connection verifies its peer anew.
 *
 * A program that includes this header is linked with the library by `holdfast app build` and `holdfast image build`.
 *
 * Functions may be called from any thread, but one connection is used by one thread at a time. What they return is freed by
 * the function that is named with it. Where one fails, it says why in `error`, which may be NULL. */
#ifndef HOLDFAST_IDENTITY_H
#define HOLDFAST_IDENTITY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why something failed. */
enum holdfast_code {
    HOLDFAST_OK = 0,
    /* An argument is wrong: the text says which. */
    HOLDFAST_ARGUMENT = 1,
    /* The app's manifest does not ask for DeviceAuthentication. */
    HOLDFAST_NOT_GRANTED = 2,
    /* The device has no certificate for the app yet. It gets one without the app's doing. */
    HOLDFAST_NO_CERTIFICATE = 3,
    /* The socket has a timeout (SO_RCVTIMEO, SO_SNDTIMEO), and it is over. */
    HOLDFAST_TIMEOUT = 4,
    /* The socket has failed, or was closed without a word. */
    HOLDFAST_SOCKET = 5,
    /* TLS has failed: one side does not take the other. */
    HOLDFAST_TLS = 6,
    /* The peer is refused: no root of the catalog vouches for it, or its certificate is not good for connections. */
    HOLDFAST_PEER_UNTRUSTED = 7,
    /* The peer is refused: it is not whom the policy names. */
    HOLDFAST_PEER_OTHER = 8,
    /* The peer is refused: its grade is not among those of the policy. */
    HOLDFAST_PEER_GRADE = 9,
    /* The peer is refused: its release is too old. */
    HOLDFAST_PEER_RELEASE = 10
};

/* What a function says when it fails. */
struct holdfast_error {
    /* One of holdfast_code. */
    int32_t code;
    /* For people, cut at its end. */
    char text[252];
};

/* Grades of a device's evidence, as bits. */
enum holdfast_grade {
    HOLDFAST_GRADE_SOFTWARE = 1,
    HOLDFAST_GRADE_EMULATED = 2,
    HOLDFAST_GRADE_HARDWARE = 4,
    HOLDFAST_GRADE_HARDWARE_VERIFIED = 8
};

/* Who holds a certificate of a Security Service. */
struct holdfast_peer {
    /* GUID of the catalog. */
    char catalog[37];
    /* Id of the device, 64 hexadecimal digits. */
    char device[65];
    /* GUID of the app; empty for the device itself. */
    char component[37];
    /* Version of the OS release that the device has attested, such as 1.4.0. */
    char version[33];
    /* Its grade, one of holdfast_grade. */
    uint32_t grade;
    /* Rollback index of that release. */
    uint64_t rollback_index;
};

/* Whom a connection takes among the holders of certificates of the same catalog. All zero takes all of them. */
struct holdfast_policy {
    /* GUID of the app that the peer must be, or NULL. */
    const char *component;
    /* Id of the device that the peer must be on, or NULL. */
    const char *device;
    /* Grades that are taken, a sum of holdfast_grade; 0 for all. */
    uint32_t grades;
    /* Rollback index that the peer's release must have at least. */
    uint64_t least_rollback_index;
};

typedef struct holdfast_identity holdfast_identity;
typedef struct holdfast_connection holdfast_connection;

/* Begins to talk to the identity service of this device, and does not wait for it. NULL where it fails.
 * Freed by holdfast_identity_free, once no connection is made by it any more. */
holdfast_identity *holdfast_identity_new(struct holdfast_error *error);

/* The same at another D-Bus address than that in HOLDFAST_IDENTITY. */
holdfast_identity *holdfast_identity_new_at(const char *address, struct holdfast_error *error);

void holdfast_identity_free(holdfast_identity *identity);

/* Waits for a certificate, and says in `own`, unless it is NULL, what it says of this app. Returns 0, or -1 where it fails. */
int holdfast_identity_wait(const holdfast_identity *identity, uint32_t timeout_ms, struct holdfast_peer *own,
                           struct holdfast_error *error);

/* Returns the end of the newest certificate in seconds since 1970, or 0 where there is none. It changes when the certificate is
 * renewed: then connections that stand are to be made again, since they outlive their certificate otherwise. */
uint64_t holdfast_identity_until(const holdfast_identity *identity);

/* Makes a connection with an app of the same catalog, over a connected socket of TCP: as its client, or as its server. Both show
 * their certificates. A server's refusal of a client reaches it with its first holdfast_read.
 * The socket belongs to the connection from the call on, and is closed where it fails. NULL where it fails.
 * Freed by holdfast_close. */
holdfast_connection *holdfast_connect_peer(const holdfast_identity *identity, int socket, const struct holdfast_policy *policy,
                                           struct holdfast_error *error);
holdfast_connection *holdfast_accept_peer(const holdfast_identity *identity, int socket, const struct holdfast_policy *policy,
                                          struct holdfast_error *error);

/* The same with a server of others, such as a broker: its certificate must be for `name`, by an authority whose certificate is in the
 * file `authorities` (PEM). The app shows its own where the server asks for one. */
holdfast_connection *holdfast_connect_server(const holdfast_identity *identity, int socket, const char *name,
                                             const char *authorities, struct holdfast_error *error);

/* Says who the peer is, as its certificate says it, which was verified. Returns 0, or -1 where it is none of a Security Service. */
int holdfast_peer_of(const holdfast_connection *connection, struct holdfast_peer *peer, struct holdfast_error *error);

/* Reads up to `length` bytes, and waits for the first. Returns how many; 0 once the peer has ended the connection; -1 where it fails.
 * After HOLDFAST_TIMEOUT it can be called again. */
ssize_t holdfast_read(holdfast_connection *connection, void *buffer, size_t length, struct holdfast_error *error);

/* Writes all of it. Returns 0, or -1 where it fails; the connection is of no use then. */
int holdfast_write(holdfast_connection *connection, const void *buffer, size_t length, struct holdfast_error *error);

/* Says to the peer that nothing follows, closes the socket, and frees the connection. */
void holdfast_close(holdfast_connection *connection);

#ifdef __cplusplus
}
#endif
#endif

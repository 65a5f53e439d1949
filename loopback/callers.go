package loopback

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

var (
	// ErrCredential is the answer to every missing or wrong credential.
	ErrCredential = errors.New("checking caller: the credential is missing or wrong")
	// ErrUnreadable says that the credential could not be checked: a fault of this side.
	ErrUnreadable = errors.New("checking caller: the token file cannot be read")
)

// Callers are the programs that may call. One of the ways is enough; the zero value lets nobody in.
type Callers struct {
	// Token is the content of a file.
	Token *TokenFile
	// UIDs and GIDs are those of the process at the other end of a Unix socket. Where one of them is given, a process
	// that is on neither list is refused on every Unix socket, whatever else it has.
	UIDs, GIDs []int
	// Certificates are the SHA-256 of public keys (SubjectPublicKeyInfo) of client certificates.
	Certificates [][sha256.Size]byte
}

// None reports whether nobody may call.
func (c Callers) None() bool {
	return c.Token == nil && len(c.UIDs)+len(c.GIDs)+len(c.Certificates) == 0
}

// Check says by which credential the caller may come, for the audit log: "uid:33", "gid:33", "certificate:<16 hex>" or "token".
// The error is ErrCredential, or ErrUnreadable when the fault is ours.
func (c Callers) Check(f Facts, header http.Header) (who string, err error) {
	if f.Peer != nil && len(c.UIDs)+len(c.GIDs) > 0 {
		switch {
		case f.Peer.UID >= 0 && slices.Contains(c.UIDs, f.Peer.UID):
			return "uid:" + strconv.Itoa(f.Peer.UID), nil
		case f.Peer.GID >= 0 && slices.Contains(c.GIDs, f.Peer.GID):
			return "gid:" + strconv.Itoa(f.Peer.GID), nil
		}
		return "", ErrCredential
	}
	if f.ClientCertificate != ([sha256.Size]byte{}) && slices.Contains(c.Certificates, f.ClientCertificate) {
		return "certificate:" + hex.EncodeToString(f.ClientCertificate[:8]), nil
	}
	if c.Token == nil {
		return "", ErrCredential
	}
	token, ok := bearer(header)
	if !ok {
		return "", ErrCredential
	}
	switch err := c.Token.check(token); {
	case errors.Is(err, ErrCredential):
		return "", ErrCredential
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return "token", nil
}

// bearer wants exactly one "Authorization: Bearer <token>" (RFC 6750 section 2.1).
func bearer(header http.Header) (string, bool) {
	lines := header["Authorization"]
	if len(lines) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(lines[0], " ")
	return token, ok && strings.EqualFold(scheme, "Bearer")
}

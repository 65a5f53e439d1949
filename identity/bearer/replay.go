package bearer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/anteroom-proxy/anteroom/store"
)

// memory knows the proofs that were used, on all nodes (RFC 9449, section 11.1).
// Only good proofs for good tokens come into it, so that a stranger cannot fill it.
type memory struct{ store store.Store }

// first says whether nobody used this proof before. What the store cannot tell is
// no yes.
func (m *memory) first(ctx context.Context, issuer string, u used, want expected) error {
	if m == nil || m.store == nil {
		return unavailable("replay.unreachable", errors.New("checking a proof: no store was given"))
	}
	// A node whose clock is ahead may forget earlier; the others would still
	// take the proof then, for as long as their clocks are behind.
	expires := u.issued.Add(proofBack + skew)
	switch err := m.store.CompareAndSwap(ctx, proofKey(issuer, u, want), nil, []byte{1}, expires); {
	case errors.Is(err, store.ErrConflict):
		return no("dpop.replayed")
	case err != nil:
		return unavailable("replay.unreachable", err)
	}
	return nil
}

// proofKey is where a proof is remembered. The key is part of it, so that one
// client cannot use up another one's names; everything is hashed, because a client
// chose it.
func proofKey(issuer string, u used, want expected) string {
	h := sha256.New()
	for _, part := range []string{labelProof, issuer, want.thumbprint, want.target, u.id} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return labelProof + "/" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

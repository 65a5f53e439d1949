package hardening

import (
	"bytes"
	"errors"
	"testing"
)

// TestRecoverTakesNoPlantedRing: anybody can seal to the public half of a recovery key. A ring of somebody's own making, under the
// name and the id of ours, must not be taken over because its recovery key opens it, where a node runs that knows better.
func TestRecoverTakesNoPlantedRing(t *testing.T) {
	c, st := newClock(), new(memory)
	secret, err := GenerateRecoveryKey(false)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := secret.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, st, c, func(r *RingConfig) { r.Recovery, r.NoRecovery = pub, false }, testKey(t, c))
	ours := n.mustSync(t)
	evil := freshRing(c.Now())
	evil.file.Ring, evil.file.Epoch = ours.file.Ring, ours.file.Epoch+5
	ct, err := pub.seal(evil.file.Ring, evil.fileKey)
	if err != nil {
		t.Fatal(err)
	}
	evil.file.Stanzas = []stanza{{Type: stanzaRecovery, KID: pub.id, CT: ct}}
	planted, err := evil.seal()
	if err != nil {
		t.Fatal(err)
	}
	st.value = bytes.Clone(planted)
	if err := n.Recover(t.Context(), secret); !errors.Is(err, ErrLocked) {
		t.Errorf("recovering: %v", err)
	}
	if !bytes.Equal(st.raw(), planted) {
		t.Error("the planted ring was wrapped for our TLS key: after a restart it is the ring")
	}
	if n.held() != ours {
		t.Error("the node gave its ring up")
	}
}

package session

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// Sign-ins of one account, and of one session of the provider, at the same moment on
// three nodes: each of them changes the same two lists, and none fails for the others.
func TestSignInsTogether(t *testing.T) {
	w := newShared(t, 3)
	const signIns = 90
	var all sync.WaitGroup
	for i := range signIns {
		all.Go(func() {
			g := grant()
			g.ProviderSession = "provider-1"
			if i%2 == 0 {
				g.Subject = fmt.Sprint("somebody ", i)
			}
			if _, _, err := w.nodes[i%3].Issue(context.Background(), g, host, Admission{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var list account
	if _, err := w.nodes[0].readCell(t.Context(), accountKey(grant().Source, grant().Subject), &list); err != nil || len(list.Sessions) != signIns/2 {
		t.Errorf("%d in the list, %v", len(list.Sessions), err)
	}
}

// Renewals of one sign-on on many sites at the same moment, on three nodes: all write the
// same record.
func TestRenewalsTogether(t *testing.T) {
	w := newShared(t, 3)
	s, _ := issue(t, w.nodes[0])
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			mine := *s
			mine.Audience = fmt.Sprintf("site%d.example.org", i)
			if err := w.nodes[i%3].touch(t.Context(), &mine); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	r, _, err := w.nodes[0].readRecord(t.Context(), s.ID)
	if err != nil || r == nil || len(r.Sites) != 31 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Rotations by hand and killed keys at the same moment on six nodes: nobody is told that
// it failed because the others were there.
func TestKeysTogether(t *testing.T) {
	w := newShared(t, 6)
	kid := w.nodes[0].Keys()[0].KID
	var all sync.WaitGroup
	for i, m := range w.nodes {
		all.Go(func() {
			var err error
			if i%2 == 0 {
				err = m.RotateKeys(context.Background())
			} else {
				err = m.KillKey(context.Background(), kid)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.follow()
	for _, m := range w.nodes {
		if string(m.JWKS()) != string(w.nodes[0].JWKS()) {
			t.Error("the nodes publish different keys")
		}
	}
}

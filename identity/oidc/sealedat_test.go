package oidc

import (
	"context"
	"strings"
	"testing"
)

// Row 156: every value that this package seals in the store is sealed under the label that SealedAt names, so that it can be
// sealed anew.
func TestRow156SealedAtKnowsAll(t *testing.T) {
	r := resources(t)
	s := keyed(t, r, nil)
	published(t, s)
	if _, err := s.proves.get(context.Background()); err != nil {
		t.Fatal(err)
	}
	items, err := r.Store.List(t.Context(), "")
	if err != nil || len(items) != 2 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	for _, item := range items {
		label, ok := SealedAt(item.Key)
		if !ok || !strings.HasPrefix(string(item.Value), "sealed "+label+"\n") {
			t.Errorf("%s: %q, %v", item.Key, label, ok)
		}
	}
	for _, key := range []string{"", labelClientKey, labelKeyID + "/x", labelDPoPKey + "x/y"} {
		if label, ok := SealedAt(key); ok || label != "" {
			t.Errorf("%q is sealed as %q", key, label)
		}
	}
}

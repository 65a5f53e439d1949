package oidc

import (
	"slices"
	"testing"
)

// TestDomainsAndIssuer: home-realm discovery compares in lower case, and a sign-in that a provider begins is told by its issuer.
func TestDomainsAndIssuer(t *testing.T) {
	s, err := New(Config{
		Name: "hospital", Issuer: "https://login.hospital.example", Domains: []string{"Hospital.Example"},
		Client: Client{ID: "anteroom", Secret: "a secret of the tests"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Issuer() != "https://login.hospital.example" || !slices.Equal(s.Domains(), []string{"hospital.example"}) {
		t.Errorf("issuer %q, domains %q", s.Issuer(), s.Domains())
	}
	s.Domains()[0] = "evil.example"
	if s.Domains()[0] != "hospital.example" {
		t.Error("a caller changed the source's domains")
	}
}

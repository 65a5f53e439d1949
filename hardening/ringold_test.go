package hardening

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// oldRing is a ring with a record and a digest, written by the program before versions had states.
type oldRing struct {
	Ring        json.RawMessage `json:"ring"`
	RecoveryKey string          `json:"recovery_key"`
	UID         string          `json:"uid"`
	Secret      string          `json:"secret"`
	Context     string          `json:"context"`
	Record      string          `json:"record"`
	Original    string          `json:"original"`
}

func readOldRing(t testing.TB) (o oldRing) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "ring-v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

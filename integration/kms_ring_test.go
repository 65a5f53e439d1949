package integration

import (
	"path/filepath"
	"strings"
	"testing"
)

// kmsRingConfig has a password ring without a recovery key: the key in KMS is its second recipient.
var kmsRingConfig = strings.NewReplacer("{"+globals+"\n}", "{"+globals+"\n\tanteroom {\n\t\t$MASTER\n\t}\n}", "\t\trecovery $RECOVERY\n", "").Replace(hmacConfig)

// TestRow142RingByKMS: the TLS key was swapped while the program was down, and no recovery key exists: the ring opens by KMS, and is
// wrapped for the new TLS key.
func TestRow142RingByKMS(t *testing.T) {
	awsEnvironment(t)
	fake, double := fakeKMS(t)
	r := prepare(t, "", "MASTER", double.lines())
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken+"\n")
	r.configure(t, kmsRingConfig)
	r.run(t)
	record := r.protect(t, "dana", "s3cret")
	asked := 0
	for _, q := range fake.Requests() {
		if q.Context["purpose"] == "hardening-ring" && q.Context["service"] == "anteroom" && q.Context["ring"] != "" {
			asked++
		}
	}
	if asked == 0 {
		t.Fatal("the ring was not wrapped by KMS")
	}
	ca().issue(t, r.dir, "site", nil, siteNames...)
	r.proc.kill()
	r.run(t)
	if !r.verify(t, "dana", "s3cret", record) {
		t.Error("with another TLS key the record does not verify")
	}
	if strings.Contains(r.proc.log(), "s3cret") {
		t.Error("the secret stands in the log")
	}
}

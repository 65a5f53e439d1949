// Package kmstest has two servers that speak the API of AWS KMS, for tests.
//
// Call NewFake for one in the test's own process: it breaks on command in every way that KMS can break and keeps a log of what
// it was asked. Call StartMoto for a real emulator of the AWS API in a process of its own, on loopback, from .parts/moto. Both
// promise to end with the test. What they do not show: IAM policies, the limits of an account, and with Moto keys that are
// disabled or wait for their deletion.
package kmstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Region and account of the fake's keys.
const (
	Region  = "eu-central-1"
	account = "123456789012"
	// AliasName names the fake's first key.
	AliasName = "alias/anteroom"
	// Principal is who the fake says that was denied.
	Principal = "arn:aws:sts::123456789012:assumed-role/hospital/i-0123456789abcdef0"
)

// Fault is a way in which the whole service fails.
type Fault string

// The faults of the service.
const (
	None      Fault = ""
	Throttled Fault = "throttled" // ThrottlingException
	Broken    Fault = "broken"    // 500, KMSInternalException
	NotKMS    Fault = "not KMS"   // 503 with a page of a proxy
	Nonsense  Fault = "nonsense"  // 200 with JSON that has nothing in it
	Hangs     Fault = "hangs"     // takes the request and never answers
	Down      Fault = "down"      // ends the connection
	Denied    Fault = "denied"    // AccessDeniedException
	Expired   Fault = "expired"   // ExpiredTokenException
	Signature Fault = "signature" // SignatureDoesNotMatch, which repeats the request's headers
)

// State of a key.
type State string

// The states of a key.
const (
	Enabled         State = "Enabled"
	Disabled        State = "Disabled"
	PendingDeletion State = "PendingDeletion"
	Unavailable     State = "Unavailable" // custom key store without a connection
	Deleted         State = ""            // there is no such key
)

// Request is what the fake was asked.
type Request struct {
	Operation string            // "GenerateDataKey"
	Key       string            // as it was named
	Context   map[string]string // the encryption context
	Scope     string            // of the signature: "AKID/20261122/eu-central-1/kms/aws4_request"
	Body      string
}

type fakeKey struct {
	state     State
	materials [][]byte // the last is the newest
}

// Fake speaks TrentService (the name of KMS' JSON 1.1 protocol) on the loopback interface.
type Fake struct {
	URL string

	mu       sync.Mutex // guards the fields below
	fault    Fault
	slow     time.Duration
	only     []string // operations that the fault concerns; empty: all
	keys     map[string]*fakeKey
	aliases  map[string]string
	order    []string
	requests []Request
	plain    [][]byte
	done     chan struct{}
}

// NewFake starts a fake with one key and an alias for it; it ends with the test.
func NewFake(t testing.TB) *Fake {
	t.Helper()
	f := &Fake{keys: map[string]*fakeKey{}, aliases: map[string]string{}, done: make(chan struct{})}
	f.aliases[AliasName] = f.NewKey()
	server := httptest.NewServer(f)
	f.URL = server.URL
	t.Cleanup(func() {
		close(f.done) // hanging requests let go
		server.CloseClientConnections()
		server.Close()
	})
	return f
}

// NewKey makes one more key and returns its ARN.
func (f *Fake) NewKey() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := random(16)
	arn := fmt.Sprintf("arn:aws:kms:%s:%s:key/%x-%x-%x-%x-%x", Region, account, id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	f.keys[arn] = &fakeKey{state: Enabled, materials: [][]byte{random(32)}}
	f.order = append(f.order, arn)
	return arn
}

// Key is the ARN of the first key.
func (f *Fake) Key() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.order[0]
}

// Fail makes the whole service fail, or only the operations that are named; None heals it.
func (f *Fake) Fail(fault Fault, operations ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.only = fault, operations
}

// Slow delays every answer.
func (f *Fake) Slow(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = d
}

// Set puts a key into a state.
func (f *Fake) Set(arn string, state State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[arn].state = state
}

// Rotate gives a key new material; what was wrapped with the old one still opens.
func (f *Fake) Rotate(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[arn].materials = append(f.keys[arn].materials, random(32))
}

// Material is the number of the material that wrapped a value, from 0 on.
func (f *Fake) Material(wrapped []byte) int { return int(wrapped[16]) }

// Requests returns what was asked since the last call, and forgets it.
func (f *Fake) Requests() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.requests
	f.requests = nil
	return all
}

// Plain returns every data key that was handed out, so that a test can look for them.
func (f *Fake) Plain() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.plain)
}

// input has the members of all operations.
type input struct {
	KeyID              string            `json:"KeyId"`
	Context            map[string]string `json:"EncryptionContext"`
	Plaintext          []byte
	CiphertextBlob     []byte
	SourceKeyID        string            `json:"SourceKeyId"`
	SourceContext      map[string]string `json:"SourceEncryptionContext"`
	DestinationKeyID   string            `json:"DestinationKeyId"`
	DestinationContext map[string]string `json:"DestinationEncryptionContext"`
	KeySpec            string
}

// refusal is an error of the API.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.code }

func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	operation, known := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	var in input
	if err := errors.Join(err, json.Unmarshal(body, &in)); err != nil || !known || r.Method != http.MethodPost || r.URL.Path != "/" {
		answer(w, nil, &refusal{400, "UnknownOperationException", ""})
		return
	}
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	f.mu.Lock()
	fault, slow, done := f.fault, f.slow, f.done
	if len(f.only) > 0 && !slices.Contains(f.only, operation) {
		fault = None
	}
	f.requests = append(f.requests, Request{operation, in.KeyID + in.DestinationKeyID, merged(in), scope, string(body)})
	f.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-r.Context().Done():
			return
		case <-done:
			return
		}
	}
	if f.broken(w, r, fault, operation) {
		return
	}
	f.mu.Lock()
	out, err := f.do(operation, in)
	f.mu.Unlock()
	answer(w, out, err)
}

func merged(in input) map[string]string {
	if in.DestinationContext != nil {
		return in.DestinationContext
	}
	return in.Context
}

// broken answers as the fault demands, and reports whether it did.
func (f *Fake) broken(w http.ResponseWriter, r *http.Request, fault Fault, operation string) bool {
	switch fault {
	case None:
		return false
	case Throttled:
		answer(w, nil, &refusal{400, "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."})
	case Broken:
		answer(w, nil, &refusal{500, "KMSInternalException", ""})
	case NotKMS:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "<html>proxy</html>")
	case Nonsense:
		answer(w, map[string]any{}, nil)
	case Hangs:
		select {
		case <-r.Context().Done():
		case <-f.done:
		}
	case Down:
		panic(http.ErrAbortHandler)
	case Denied:
		answer(w, nil, &refusal{400, "AccessDeniedException", "User: " + Principal + " is not authorized to perform: kms:" + operation + " on resource: x because no identity-based policy allows it"})
	case Expired:
		answer(w, nil, &refusal{400, "ExpiredTokenException", "The security token included in the request is expired"})
	case Signature:
		answer(w, nil, &refusal{400, "SignatureDoesNotMatch", fmt.Sprintf("The canonical string should have been %q", r.Header)})
	}
	return true
}

func answer(w http.ResponseWriter, out map[string]any, err error) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", "fake-"+hex.EncodeToString(random(8)))
	var r *refusal
	switch {
	case errors.As(err, &r):
		w.WriteHeader(r.status)
		out = map[string]any{"__type": r.code, "message": r.message}
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
		out = map[string]any{"__type": "KMSInternalException"}
	}
	_ = json.NewEncoder(w).Encode(out) // the client may have gone
}

func (f *Fake) do(operation string, in input) (map[string]any, error) {
	switch operation {
	case "DescribeKey":
		arn, key, err := f.find(in.KeyID)
		if err != nil {
			return nil, err
		}
		about := map[string]any{"KeyId": arn[strings.Index(arn, "/")+1:], "Arn": arn, "Enabled": key.state == Enabled, "KeyState": key.state, "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT", "Origin": "AWS_KMS", "KeyManager": "CUSTOMER"}
		if key.state == PendingDeletion {
			about["DeletionDate"] = float64(time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC).Unix())
		}
		return map[string]any{"KeyMetadata": about}, nil
	case "GenerateDataKey":
		plain := random(32)
		arn, wrapped, err := f.encrypt(in.KeyID, plain, in.Context)
		if err != nil || in.KeySpec != "AES_256" {
			return nil, errors.Join(err, errIf(in.KeySpec != "AES_256", "ValidationException"))
		}
		f.plain = append(f.plain, plain)
		return map[string]any{"KeyId": arn, "Plaintext": plain, "CiphertextBlob": wrapped}, nil
	case "Encrypt":
		arn, wrapped, err := f.encrypt(in.KeyID, in.Plaintext, in.Context)
		return map[string]any{"KeyId": arn, "CiphertextBlob": wrapped}, err
	case "Decrypt":
		arn, plain, err := f.decrypt(in.KeyID, in.CiphertextBlob, in.Context)
		return map[string]any{"KeyId": arn, "Plaintext": plain}, err
	case "ReEncrypt":
		from, plain, err := f.decrypt(in.SourceKeyID, in.CiphertextBlob, in.SourceContext)
		if err != nil {
			return nil, err
		}
		to, wrapped, err := f.encrypt(in.DestinationKeyID, plain, in.DestinationContext)
		return map[string]any{"SourceKeyId": from, "KeyId": to, "CiphertextBlob": wrapped}, err
	}
	return nil, &refusal{400, "UnknownOperationException", ""}
}

func errIf(bad bool, code string) error {
	if bad {
		return &refusal{400, code, ""}
	}
	return nil
}

// find takes an ARN, an id or an alias.
func (f *Fake) find(name string) (string, *fakeKey, error) {
	if arn, ok := f.aliases[name]; ok {
		name = arn
	}
	for arn, key := range f.keys {
		if (arn == name || strings.HasSuffix(arn, "/"+name)) && key.state != Deleted {
			return arn, key, nil
		}
	}
	return "", nil, &refusal{400, "NotFoundException", "Key '" + name + "' does not exist"}
}

func (f *Fake) usable(name string) (string, *fakeKey, error) {
	arn, key, err := f.find(name)
	switch {
	case err != nil:
		return "", nil, err
	case key.state == Disabled:
		return "", nil, &refusal{400, "DisabledException", arn + " is disabled."}
	case key.state == PendingDeletion:
		return "", nil, &refusal{400, "KMSInvalidStateException", arn + " is pending deletion."}
	case key.state == Unavailable:
		return "", nil, &refusal{400, "KMSInvalidStateException", arn + " is unavailable."}
	}
	return arn, key, nil
}

// A wrapped value is the key's id (16) ‖ number of the material (1) ‖ nonce (12) ‖ ciphertext and tag.

func (f *Fake) encrypt(name string, plain []byte, context map[string]string) (string, []byte, error) {
	arn, key, err := f.usable(name)
	if err != nil {
		return "", nil, err
	}
	n := len(key.materials) - 1
	out := append(idOf(arn), byte(n))
	nonce := random(12)
	return arn, sealer(key.materials[n]).Seal(append(out, nonce...), nonce, plain, canonical(context)), nil
}

func (f *Fake) decrypt(name string, wrapped []byte, context map[string]string) (string, []byte, error) {
	invalid := &refusal{400, "InvalidCiphertextException", ""}
	arn, key, err := f.usable(name)
	if err != nil {
		return "", nil, err
	}
	if len(wrapped) < 16+1+12+16 {
		return "", nil, invalid
	}
	if string(wrapped[:16]) != string(idOf(arn)) {
		for other := range f.keys {
			if string(wrapped[:16]) == string(idOf(other)) {
				return "", nil, &refusal{400, "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."}
			}
		}
		return "", nil, invalid
	}
	n := int(wrapped[16])
	if n >= len(key.materials) {
		return "", nil, invalid
	}
	plain, err := sealer(key.materials[n]).Open(nil, wrapped[17:29], wrapped[29:], canonical(context))
	if err != nil {
		return "", nil, invalid
	}
	return arn, plain, nil
}

func idOf(arn string) []byte {
	id, err := hex.DecodeString(strings.ReplaceAll(arn[strings.Index(arn, "/")+1:], "-", ""))
	if err != nil {
		panic(err) // NewKey made it
	}
	return id
}

// canonical is one spelling for each encryption context.
func canonical(context map[string]string) []byte {
	var names []string
	for name := range context {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []byte
	for _, name := range names {
		for _, part := range []string{name, context[name]} {
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(part))), part...)
		}
	}
	return out
}

func sealer(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// Package awskms is a master key that lives in AWS Key Management Service and never leaves it: data keys are made, wrapped and
// unwrapped there.
//
// Call New with the key, then use the Master as an envelope.Master; it fits the key rings of the hardening service as well
// (hardening.Wrapper). The operations are GenerateDataKey, Encrypt, Decrypt and ReEncrypt on one symmetric key, always with an
// encryption context, and Decrypt always with the key named: bytes that another key wrapped do not open, whoever wrote them.
//
// Credentials, region, endpoint and proxy are found as AWS users expect it: the Config first, then the environment
// (AWS_REGION, AWS_ACCESS_KEY_ID…, AWS_PROFILE, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ENDPOINT_URL_KMS, HTTPS_PROXY,
// AWS_CA_BUNDLE), the shared config files, and the roles of containers and machines.
//
// The identity needs kms:GenerateDataKey, kms:Encrypt, kms:Decrypt, kms:ReEncryptFrom and kms:ReEncryptTo on the key;
// kms:DescribeKey makes the diagnosis better, and is not needed. A policy may demand the encryption context, whose `service` is
// always `anteroom`.
//
// It promises that a call ends within Config.Timeout, retries included, and that its error is one of envelope.ErrUnavailable
// (try again), ErrSealed (will never open) and ErrRefused (an operator must act; the text says what to do). No error, no log line
// and no way of printing a Master contains a key, a credential or what an AWS service echoed. A plaintext leaves the process in
// one case only: Wrap hands it to KMS. The way there is TLS, or the loopback interface.
//
// An alias is resolved when New is called, and only then: the key that an alias names must not change under values that are
// wrapped already. New asks KMS for that; with the ARN of a key it asks nothing, so that a program can start while KMS is away.
package awskms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	// DefaultTimeout bounds a call with all its retries.
	DefaultTimeout = 5 * time.Second
	// dataKeyLen is the length of a data key, in bytes.
	dataKeyLen = 32
	// maxPlain is what Encrypt takes at most, maxWrapped what Decrypt takes.
	maxPlain, maxWrapped = 4096, 6144
)

// Config says which key, and how to reach it. All but Key may be empty.
type Config struct {
	Key      string        // ARN of a key or an alias, id of a key, or alias/NAME
	Region   string        // default: the ARN's, then AWS_REGION, then the profile's
	Endpoint string        // URL of the KMS endpoint; default: AWS_ENDPOINT_URL_KMS, then AWS's own
	Profile  string        // of the shared config files; default: AWS_PROFILE
	Role     string        // ARN of a role to assume (sts:AssumeRole) with the credentials that were found
	Proxy    string        // URL of an HTTP proxy; default: HTTPS_PROXY and NO_PROXY
	Timeout  time.Duration // of a call with all its retries; default: DefaultTimeout
	Logger   *slog.Logger  // default: none
	// Observe is told of each call ("Decrypt") and its outcome, nil for a good one; it must not wait. Default: nobody is told.
	Observe func(operation string, err error)
}

// Master is one KMS key. It is made by New; its methods may be called from any goroutine.
type Master struct {
	client  *kms.Client
	key     string // ARN; with it every call names its key
	region  string
	role    string
	timeout time.Duration
	logger  *slog.Logger
	failing atomic.Bool // the last call failed: say it once, and once when it is over
	observe func(operation string, err error)
}

var keyForm = regexp.MustCompile(`^(?:arn:(aws[a-z-]*):kms:([a-z0-9-]+):([0-9]{12}):)?(?:(key)/|(alias)/)?([A-Za-z0-9/_-]{1,256})$`)

// parts splits the name of a key: its region, and whether it is an ARN and of a key rather than an alias.
func parts(key string) (region string, arnOfKey bool, err error) {
	m := keyForm.FindStringSubmatch(key)
	if m == nil || m[2] != "" && m[4] == "" && m[5] == "" || m[2] == "" && m[4] != "" || m[4] == "" && m[5] == "" && strings.Contains(m[6], "/") {
		return "", false, fmt.Errorf("%q is not the name of a KMS key: write its ARN (arn:aws:kms:REGION:ACCOUNT:key/ID), its id, or alias/NAME", key)
	}
	return m[2], m[4] != "", nil
}

// Check looks at what can be judged without asking anybody.
func (c Config) Check() error {
	region, _, err := parts(c.Key)
	if err != nil {
		return err
	}
	if region != "" && c.Region != "" && region != c.Region {
		return fmt.Errorf("the key is in region %s and the region is set to %s: remove the region, the ARN says it", region, c.Region)
	}
	if c.Role != "" && !roleForm.MatchString(c.Role) {
		return fmt.Errorf("role %q: write the ARN of a role (arn:aws:iam::ACCOUNT:role/NAME)", c.Role)
	}
	if _, err := parseURL("proxy", c.Proxy); err != nil {
		return err
	}
	endpoint, err := parseURL("endpoint", c.Endpoint)
	if err != nil {
		return err
	}
	return checkEndpoint(endpoint)
}

// New finds the credentials' sources and the key. It asks KMS only for the ARN of a key that was named without one.
func New(ctx context.Context, cfg Config) (*Master, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("AWS KMS: %w", err)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, error) {}
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	client, region, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("AWS KMS: %w", err)
	}
	m := &Master{client: client, key: cfg.Key, region: region, role: cfg.Role, timeout: cfg.Timeout, logger: cfg.Logger, observe: cfg.Observe}
	if _, arn, _ := parts(cfg.Key); !arn {
		arn, err := m.resolve(ctx)
		if err != nil {
			return nil, fmt.Errorf("finding the key %s: %w", cfg.Key, err)
		}
		m.key = arn
	}
	return m, nil
}

// resolve asks which key the alias or the id names. Without the right to DescribeKey a data key is made, whose answer says it.
func (m *Master) resolve(ctx context.Context) (string, error) {
	described, err := m.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &m.key})
	if err == nil && described.KeyMetadata != nil {
		return m.resolved(aws.ToString(described.KeyMetadata.Arn))
	}
	if err := m.explain(opDescribe, err); !errors.Is(err, envelope.ErrRefused) {
		return "", err
	}
	made, err := m.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: &m.key, KeySpec: types.DataKeySpecAes256, EncryptionContext: map[string]string{"service": "anteroom", "purpose": "probe"},
	})
	if err != nil {
		return "", m.explain(opGenerate, err)
	}
	clear(made.Plaintext)
	return m.resolved(aws.ToString(made.KeyId))
}

func (m *Master) resolved(arn string) (string, error) {
	if _, ok, err := parts(arn); err != nil || !ok {
		return "", fmt.Errorf("%w: AWS KMS answered without the ARN of %s: see that the endpoint is KMS'", envelope.ErrUnavailable, m.key)
	}
	return arn, nil
}

// ID names the key: "awskms:" and its ARN.
func (m *Master) ID() string { return "awskms:" + m.key }

// Generate has KMS make a data key, and returns it with its wrapped form.
func (m *Master) Generate(ctx context.Context, about map[string]string) (plain, wrapped []byte, err error) {
	err = m.call(ctx, opGenerate, about, func(ctx context.Context) (string, error) {
		out, err := m.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &m.key, KeySpec: types.DataKeySpecAes256, EncryptionContext: about})
		if err != nil {
			return "", err
		}
		plain, wrapped = out.Plaintext, out.CiphertextBlob
		if len(plain) != dataKeyLen || len(wrapped) == 0 {
			return "", errAnswer
		}
		return aws.ToString(out.KeyId), nil
	})
	if err != nil {
		clear(plain)
		return nil, nil, err
	}
	return plain, wrapped, nil
}

// Wrap has KMS encrypt up to 4096 bytes.
func (m *Master) Wrap(ctx context.Context, plain []byte, about map[string]string) (wrapped []byte, err error) {
	if len(plain) == 0 || len(plain) > maxPlain {
		return nil, fmt.Errorf("AWS KMS wraps 1 to %d bytes, not %d", maxPlain, len(plain))
	}
	err = m.call(ctx, opEncrypt, about, func(ctx context.Context) (string, error) {
		out, err := m.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &m.key, Plaintext: plain, EncryptionContext: about})
		if err != nil {
			return "", err
		}
		if wrapped = out.CiphertextBlob; len(wrapped) == 0 {
			return "", errAnswer
		}
		return aws.ToString(out.KeyId), nil
	})
	if err != nil {
		return nil, err
	}
	return wrapped, nil
}

// Unwrap gives back what Generate or Wrap wrapped for the same context.
func (m *Master) Unwrap(ctx context.Context, wrapped []byte, about map[string]string) (plain []byte, err error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return nil, fmt.Errorf("%w: AWS KMS wrapped no value of %d bytes", envelope.ErrSealed, len(wrapped))
	}
	err = m.call(ctx, opDecrypt, about, func(ctx context.Context) (string, error) {
		out, err := m.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &m.key, CiphertextBlob: wrapped, EncryptionContext: about})
		if err != nil {
			return "", err
		}
		if plain = out.Plaintext; len(plain) == 0 {
			return "", errAnswer
		}
		return aws.ToString(out.KeyId), nil
	})
	if err != nil {
		clear(plain)
		return nil, err
	}
	return plain, nil
}

// Rewrap has KMS wrap the same content under the key's newest material. The content never leaves KMS.
func (m *Master) Rewrap(ctx context.Context, wrapped []byte, about map[string]string) (again []byte, err error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return nil, fmt.Errorf("%w: AWS KMS wrapped no value of %d bytes", envelope.ErrSealed, len(wrapped))
	}
	err = m.call(ctx, opReEncrypt, about, func(ctx context.Context) (string, error) {
		out, err := m.client.ReEncrypt(ctx, &kms.ReEncryptInput{
			CiphertextBlob: wrapped, SourceKeyId: &m.key, SourceEncryptionContext: about, DestinationKeyId: &m.key, DestinationEncryptionContext: about,
		})
		if err != nil {
			return "", err
		}
		if again = out.CiphertextBlob; len(again) == 0 {
			return "", errAnswer
		}
		return aws.ToString(out.KeyId), nil
	})
	if err != nil {
		return nil, err
	}
	return again, nil
}

// errAnswer is an answer without what was asked for.
var errAnswer = errors.New("an answer without the value")

// call runs one operation within the time that is allowed, and judges its answer: it must come from the key that was named.
func (m *Master) call(ctx context.Context, op operation, about map[string]string, do func(context.Context) (string, error)) error {
	if len(about) == 0 || slices.Contains(slices.Collect(maps.Values(about)), "") {
		return errors.New("AWS KMS: every call needs an encryption context without empty values")
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	key, err := do(ctx)
	if err == nil && key != m.key {
		err = errAnswer
	}
	if err != nil {
		err = m.explain(op, err)
	}
	m.observe(op.name(), err)
	m.note(err)
	return err
}

// note says once that KMS does not do what it should, and once that it does again. What does not open says nothing about KMS,
// nor does a caller that went away.
func (m *Master) note(err error) {
	switch {
	case err == nil && m.failing.Swap(false):
		m.logger.Info("AWS KMS answers again", "key", m.key)
	case err != nil && !errors.Is(err, envelope.ErrSealed) && !errors.Is(err, context.Canceled) && !m.failing.Swap(true):
		m.logger.Error("AWS KMS does not answer as it should", "key", m.key, "error", err)
	}
}

// A Master prints as its id: the client in it holds credentials.

// String returns the id.
func (m *Master) String() string { return m.ID() }

// GoString returns the id.
func (m *Master) GoString() string { return m.ID() }

// Format prints the id, whatever the verb.
func (m *Master) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.ID()) }

// LogValue returns the id.
func (m *Master) LogValue() slog.Value { return slog.StringValue(m.ID()) }

// MarshalText returns the id.
func (m *Master) MarshalText() ([]byte, error) { return []byte(m.ID()), nil }

var _ envelope.Master = (*Master)(nil)

package awskms

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Finding is one answer of Diagnose.
type Finding struct {
	OK     bool
	What   string // in plain words
	Remedy string
}

// Diagnose asks for the key's state and does once with it all that the program will do, on a random value that is thrown away.
func (m *Master) Diagnose(ctx context.Context) []Finding {
	all := m.diagnoseState(ctx)
	about := map[string]string{"service": "anteroom", "purpose": "diagnosis"}
	plain, wrapped, err := m.Generate(ctx, about)
	if err != nil {
		return append(all, wrong(err))
	}
	defer clear(plain)
	steps := []func() error{
		func() (err error) { wrapped, err = m.Wrap(ctx, plain, about); return },
		func() (err error) { wrapped, err = m.Rewrap(ctx, wrapped, about); return },
		func() error {
			again, err := m.Unwrap(ctx, wrapped, about)
			defer clear(again)
			if err == nil && !bytes.Equal(plain, again) {
				return errAnswer
			}
			return err
		},
		func() error {
			again, err := m.Unwrap(ctx, wrapped, map[string]string{"service": "anteroom", "purpose": "diagnosis of another context"})
			defer clear(again)
			if errors.Is(err, envelope.ErrSealed) {
				return nil
			}
			return errAnswer
		},
	}
	broken := false
	for _, step := range steps {
		if err := step(); err != nil {
			all, broken = append(all, wrong(err)), true
		}
	}
	if !broken {
		all = append(all, Finding{OK: true, What: "data keys can be made, wrapped, re-wrapped and opened under " + m.key})
	}
	return all
}

func wrong(err error) Finding {
	if errors.Is(err, errAnswer) {
		return Finding{What: "the endpoint does not answer as KMS does", Remedy: "see `endpoint` and AWS_ENDPOINT_URL_KMS"}
	}
	return Finding{What: err.Error(), Remedy: "mend it as the message says, then run doctor again"}
}

// diagnoseState says what DescribeKey says. Without the right to ask it says nothing: the other calls tell what matters.
func (m *Master) diagnoseState(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	out, err := m.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &m.key})
	if err != nil || out.KeyMetadata == nil {
		return nil
	}
	switch k := out.KeyMetadata; k.KeyState {
	case types.KeyStateEnabled:
		return nil
	case types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion:
		when := "soon"
		if k.DeletionDate != nil {
			when = "at " + k.DeletionDate.UTC().Format(time.DateTime) + " UTC"
		}
		return []Finding{{What: "the key will be deleted " + when + ", and with it all that it wrapped", Remedy: "aws kms cancel-key-deletion --key-id " + m.key + " && aws kms enable-key --key-id " + m.key}}
	case types.KeyStateDisabled:
		return []Finding{{What: "the key is disabled", Remedy: "aws kms enable-key --key-id " + m.key}}
	default:
		return []Finding{{What: "the key's state is " + string(k.KeyState), Remedy: "aws kms describe-key --key-id " + m.key}}
	}
}

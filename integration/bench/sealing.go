package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

// sealing measures the envelope beside bare AES-256-GCM, 64 KiB at a time, in this process and in turn.
func sealing(rounds int) error {
	dir, err := os.MkdirTemp("", "anteroom-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	st, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		return err
	}
	defer st.Close()
	master, err := envelope.OpenLocal(filepath.Join(dir, "master.key"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	e, err := envelope.Start(ctx, envelope.Config{Name: "bench", Master: master, Store: st})
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return err
	}
	bare, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	plain := make([]byte, 64<<10)
	_, _ = rand.Read(plain)
	label, nonce := []byte("anteroom/bench/v1"), make([]byte, bare.NonceSize())
	sealed, err := e.Seal(ctx, string(label), plain)
	if err != nil {
		return err
	}
	bareSealed := bare.Seal(nil, nonce, plain, label)
	works := []func() error{
		func() error { bare.Seal(nil, nonce, plain, label); return nil },
		func() error { _, err := e.Seal(ctx, string(label), plain); return err },
		func() error { _, err := bare.Open(nil, nonce, bareSealed, label); return err },
		func() error {
			got, err := e.Open(ctx, string(label), sealed)
			if err == nil && !bytes.Equal(got[:8], plain[:8]) {
				err = fmt.Errorf("what was opened is not what was sealed")
			}
			return err
		},
	}
	ratios := [2][]float64{}
	for range rounds * 4 {
		var took [4]time.Duration
		for i, work := range works {
			begin := ownCPU()
			for range 2000 {
				if err := work(); err != nil {
					return err
				}
			}
			took[i] = ownCPU() - begin
		}
		ratios[0] = append(ratios[0], float64(took[0])/float64(took[1]))
		ratios[1] = append(ratios[1], float64(took[2])/float64(took[3]))
	}
	fmt.Printf("\nenvelope, 64 KiB, beside bare AES-256-GCM: seal %.3f [%.3f–%.3f], open %.3f [%.3f–%.3f], target ≥ 0.7\n",
		median(ratios[0]), slices.Min(ratios[0]), slices.Max(ratios[0]), median(ratios[1]), slices.Min(ratios[1]), slices.Max(ratios[1]))
	return nil
}

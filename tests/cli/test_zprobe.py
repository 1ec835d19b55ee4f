import mace_tp.cli.train as t
def test_p(run, tmp_path, monkeypatch):
    monkeypatch.setattr(t, "train", lambda *a: (_ for _ in ()).throw(t.InputError("REACHED " + str(a[0].tensor_product))))
    for extra in ["modle.l_max=2","modle=large","model.radial_mlp=3","trainer=foo","data.train=${foo}","foo","tensor_product=[a]","model.l_mx=2","loss.stagetwo.start=1", "model.l_max=two", "data.train=a,b", "data.train={a", "+data=ethanol", "model=hugh", "model@foo=large", "dtype=null","seed=null", "modle={l_max:2}", "model={l_mx:2}", "experiment=nope", "data=nothere", "tensor_product=gaunt", "tensor_product.interaction={name:cg,foo:2}", "+model.l_max=2", "~foo", "~model.l_max", "hydra=foo", "loss={stage_two:{strat:1}}", "model.l_max=${x:1}", "trainer.max_minutes=[1]", "tensor_product.interaction.foo=2", "tensor_product.interaction=gaunt", "tensor_product.foo=gaunt", "+tensor_product.foo=gaunt", "+foo=1", "++model.foo=1", "data.atomic_energies={H:1}", "+model.foo.bar=1", "tensor_prodct=cg", "exprmnt=ethanol","+experiment=ethanol","experiment=ethanol"]:
        print("\n##", extra)
        o = run("train", f"run_dir={tmp_path}/x", "data.train=x", extra)
        print(o.err)

import time
from tests.tiny_runs import *
def test_probe(tiny_gpt2_dir, tiny_llama_dir, tmp_path):
    for name, d, kw in (("gpt2", tiny_gpt2_dir, {}), ("gpt2b", tiny_gpt2_dir, {}), ("lora", tiny_llama_dir, dict(use_peft=True))):
        t=time.time(); tr = trainer(d, tmp_path/name, **kw); t1=time.time(); m = tr.train(); t2=time.time()
        print(name, t1-t, t2-t1)
        for k,v in m.items(): print(k, v)

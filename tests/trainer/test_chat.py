"""Ends of a turn, and what a template writes around one: templates of real models, expectations by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_policies
from chats import LLAMA2, MISTRAL, byte_tokenizer, llama_tokenizer, marked_tokenizer, trl_template
from test_trainer import arguments

from trainer import VRGRPOTrainer
from trainer.chat import chat_of, check_tokens, ends_of_turn
from trainer.dialogue import TokenContext
from trainer.prompts_env import prompt_tasks, prompt_template
from trainer.saved import open_run
from trainer.types import Message

TEXT = "It is 4."
CHATML = "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n"
# {template: special tokens, other added ones, the end of sequence, the ends of a turn, and the text of a context between the
# first question and the second, where an expert's turn stands}.
MODELS: dict[str, tuple[str, str, str, str, str]] = {
    "qwen2_5": ("<|endoftext|> <|im_start|> <|im_end|>", "<tool_call>", "<|im_end|>", "<|im_end|>", TEXT.join(CHATML)),
    "qwen3": (
        "<|endoftext|> <|im_start|> <|im_end|>", "<think> </think>", "<|im_end|>", "<|im_end|>",
        f"<think>\n\n</think>\n\n{TEXT}".join(CHATML),
    ),
    "qwen3_5_think": (
        "<|endoftext|> <|im_start|> <|im_end|>", "<think> </think>", "<|endoftext|>", "<|im_end|>",
        f"<think>\n\n</think>\n\n{TEXT}".join(CHATML),
    ),
    "nemotron_3_nano": (
        "<s> </s> <|im_start|> <|im_end|>", "<think> </think>", "</s>", "<|im_end|>",
        f"<think>\n\n</think>\n\n{TEXT}".join(CHATML),
    ),
    "gemma3": (
        "<bos> <eos> <start_of_turn> <end_of_turn>", "", "<eos>", "<end_of_turn>",
        f"<end_of_turn>\n<start_of_turn>model\n{TEXT}<end_of_turn>\n<start_of_turn>user\n",
    ),
    "gemma4": ("<bos> <eos> <|turn> <turn|>", "", "<eos>", "<turn|>", f"<turn|>\n<|turn>model\n{TEXT}<turn|>\n<|turn>user\n"),
    "llama3": (
        "<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>", "", "<|end_of_text|>",
        "<|eot_id|>",
        f"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{TEXT}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
    ),
    "phi3": (
        "<|endoftext|> <|user|> <|assistant|> <|end|>", "", "<|endoftext|>", "<|end|>",
        f"<|end|>\n<|assistant|>\n{TEXT}<|end|>\n<|user|>\n",
    ),
    "deepseek_r1_distill": (
        "<bos> <eos>", "<｜User｜> <｜Assistant｜> <think> </think> <｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>", f"<｜Assistant｜><think>\n\n</think>\n\n{TEXT}<｜end▁of▁sentence｜><｜User｜>",
    ),
    "glm4moe": (
        "[gMASK] <sop> <|user|> <|assistant|> <|endoftext|>", "<think> </think>", "<|endoftext|>", "<|user|>",
        f"<|assistant|>\n<think></think>\n{TEXT}<|user|>\n",
    ),
    "gptoss": (
        "<|start|> <|message|> <|end|> <|channel|> <|return|>", "", "<|return|>", "<|return|>",
        f"<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}<|return|><|start|>user<|message|>",
    ),
    "cohere2": (
        ("<bos> <|START_OF_TURN_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|> <|START_RESPONSE|> <|END_RESPONSE|> "
        "<|END_OF_TURN_TOKEN|>"), "", "<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|> <|END_RESPONSE|>",
        (f"<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>{TEXT}<|END_RESPONSE|>"
        "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>"),
    ),
}  # fmt: skip


def model(rows: int, ends: Any = None) -> Any:
    config = SimpleNamespace(get_text_config=lambda decoder: SimpleNamespace(vocab_size=rows))
    return SimpleNamespace(config=config, generation_config=SimpleNamespace(eos_token_id=ends))


def made(name: str) -> Any:
    special, added, eos, *_ = MODELS[name]
    bos = next((token for token in special.split() if token in ("<bos>", "<s>", "<|begin_of_text|>")), None)
    named = {} if bos is None else {"bos_token": bos}
    return byte_tokenizer(tuple(special.split()), eos=eos, template=trl_template(name), added=tuple(added.split()), **named)


def ask(tokenizer: Any, reply: list[int] | None = None, text: str = TEXT, **options: Any) -> TokenContext:
    """Two questions and a turn between them: an expert's, or these tokens."""
    context = TokenContext(tokenizer, **options)
    messages = [Message("user", "one?")]
    context.sync(messages)
    context.append(context.reply_ids(text) if reply is None else reply)
    context.sync([*messages, Message("assistant", text), Message("user", "more?")])
    return context


def between(tokenizer: Any, context: TokenContext) -> str:
    return str(tokenizer.decode(context.token_ids)).partition("one?")[2].partition("more?")[0]


@pytest.mark.parametrize("name", MODELS)
def test_turns_stand_as_the_models_template_has_them(name: str) -> None:
    tokenizer, (*_, ends, text) = made(name), MODELS[name]
    assert sorted(tokenizer.convert_ids_to_tokens(chat_of(tokenizer).ends)) == sorted(ends.split())
    assert set(ends_of_turn(tokenizer)) == {*tokenizer.convert_tokens_to_ids(ends.split()), tokenizer.eos_token_id}
    context = ask(tokenizer)
    assert between(tokenizer, context) == text
    assert context.token_ids == tokenizer(tokenizer.decode(context.token_ids), add_special_tokens=False)["input_ids"]
    # What was sampled stays; its end isn't written again, whichever of several it was; one that is cut off gets it.
    begun = text[: text.index(TEXT)]
    said = tokenizer(TEXT)["input_ids"]
    opened = chat_of(tokenizer).opening
    for end in ends.split():
        sampled = between(tokenizer, ask(tokenizer, [*said, tokenizer.convert_tokens_to_ids(end)]))
        assert sampled.count(end, sampled.index(TEXT)) == text.count(end, text.index(TEXT))
        assert sampled.endswith(text[text.index(TEXT) :].partition(end)[2])
    cut = between(tokenizer, ask(tokenizer, said)).replace("<|end|><|start|>user", "<|return|><|start|>user")
    assert cut.endswith(text[text.index(TEXT) :])
    assert begun.startswith(cut[: cut.index(TEXT)])
    assert cut[: cut.index(TEXT)].endswith(opened)


@pytest.mark.parametrize("template", [LLAMA2, MISTRAL])
@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_what_stands_between_content_and_end_is_the_templates(template: str, kind: str) -> None:
    """Llama 2: ' ' + content + ' ' + eos. Tokens too are those of the whole text, but where a turn's tokens end."""
    if kind == "bytes":
        tokenizer: Any = byte_tokenizer(("<s>", "</s>"), eos="</s>", bos_token="<s>", template=template)
    else:
        tokenizer = llama_tokenizer(bos=True, template=template)
    messages = [Message("user", "one?"), Message("assistant", TEXT), Message("user", "more?")]
    shown = tokenizer.apply_chat_template([message._asdict() for message in messages], tokenize=False)
    whole = tokenizer(shown, add_special_tokens=False)["input_ids"]
    assert ask(tokenizer).token_ids == whole
    eos, space = tokenizer.eos_token_id, " " * (template is LLAMA2)
    for sampled in (f"{space}{TEXT}{space}", f"{space}{TEXT}"):
        ids = chat_of(tokenizer)._after("]", sampled)
        got = ask(tokenizer, [*ids, eos]).token_ids
        assert got.count(eos) == 1
        assert got[got.index(eos) :] == whole[whole.index(eos) :]
    cut = ask(tokenizer, chat_of(tokenizer)._after("]", f"{space}{TEXT}")).token_ids
    assert tokenizer.decode(cut) == tokenizer.decode(whole)


def test_every_source_of_ends_counts() -> None:
    tokenizer = made("llama3")
    eot, eos = tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    assert ends_of_turn(tokenizer) == tuple(sorted((eot, eos)))
    assert ends_of_turn(tokenizer, None, [model(300, 7)]) == (7, *sorted((eot, eos)))
    assert ends_of_turn(tokenizer, None, [model(300, [7, eos]), model(300)]) == (7, *sorted((eot, eos)))
    assert ends_of_turn(tokenizer, None, [model(300, [7, 300, 1000])]) == (7, *sorted((eot, eos)))  # no model samples these
    tokenizer.eos_token = None
    assert ends_of_turn(tokenizer) == (eot,)


def test_what_the_generation_configuration_names_ends_a_completion(tmp_path: Path) -> None:
    """Ten tokens that no tokenizer or template knows as ends: nothing goes on behind one."""
    model, seen = tiny_policies.qwen3(), list[list[int]]()
    model.generation_config.eos_token_id = list(range(40, 50))

    def length(completion_ids: list[list[int]], **columns: Any) -> list[float]:
        seen.extend(completion_ids)
        return [float(len(ids)) for ids in completion_ids]

    args = arguments(tmp_path / "run", max_completion_length=64, max_steps=1)
    made = VRGRPOTrainer(model, length, args, [{"prompt": "a"}], processing_class=tiny_policies.byte_tokenizer())
    made.train()
    ends = {*range(40, 50), tiny_policies.byte_tokenizer().eos_token_id}
    assert any(len(ids) < 64 for ids in seen)
    assert all((ids[-1] in ends or len(ids) == 64) and not ends & set(ids[:-1]) for ids in seen)
    with open_run(tmp_path / "run") as saved:  # and so do `hima generate` and `hima eval`
        assert set(saved.params.stop_token_ids) == ends


def test_texts_rendered_beforehand_end_as_the_chat_does() -> None:
    """Qwen2.5's base model: <|endoftext|>, and a chat template that ends turns with <|im_end|>."""
    tokenizer = byte_tokenizer()
    end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    tasks = prompt_tasks([{"prompt": text}])
    tokenizer.chat_template = prompt_template(tokenizer, tasks)
    assert ends_of_turn(tokenizer) == tuple(sorted((end, eos)))
    assert prompt_template(tokenizer, tasks) == tokenizer.chat_template  # of a run's own tokenizer, loaded again
    bare = byte_tokenizer(template=None)
    bare.chat_template = prompt_template(bare, tasks)
    assert ends_of_turn(bare) == (eos,)


@pytest.mark.parametrize(
    "tokenizer",
    [llama_tokenizer(bos=True), llama_tokenizer(bos=False), marked_tokenizer(), byte_tokenizer()],
    ids=["sentencepiece with a BOS", "sentencepiece", "bytes with a BOS", "bytes"],
)
@pytest.mark.parametrize("own", [LLAMA2, None])
def test_a_text_keeps_its_first_space(tokenizer: Any, own: str | None) -> None:
    for text in ("The sum 1+2=", " The", "\nA", "<s>[INST] x [/INST]", "x</s>"):
        tokenizer.chat_template = own
        tokenizer.chat_template = prompt_template(tokenizer, prompt_tasks([{"prompt": text}]))
        context = TokenContext(tokenizer)
        assert context.sync([Message("user", text)]) == tokenizer(text)["input_ids"]


def test_a_template_of_an_older_run_reads_texts_as_well() -> None:
    template = "{{ '<s>' }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer = llama_tokenizer(bos=True, template=template)
    assert TokenContext(tokenizer).sync([Message("user", "The</s>")]) == tokenizer("The</s>")["input_ids"]


def test_an_experts_turn_gets_no_space_that_the_template_does_not_write() -> None:
    """SentencePiece puts one before the first word of every text, and an expert's turn is no text of its own."""
    template = "{% for m in messages %}{{ m['role'] }}:\n{{ m['content'] }}</s>\n{% endfor %}{{ 'assistant:\\n' }}"
    tokenizer = llama_tokenizer(bos=True, template=template)
    context = ask(tokenizer)
    assert tokenizer.convert_ids_to_tokens(context.reply_ids("The")) == ["T", "h", "e", "</s>"]
    whole = "user:\none?</s>\nassistant:\nIt is 4.</s>\nuser:\nmore?</s>\nassistant:\n"
    assert context.token_ids == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_a_turn_with_a_thought_goes_on_in_the_one_that_the_prompt_began() -> None:
    said = f"<think>\nhm\n</think>\n\n{TEXT}"
    for name in ("qwen3", "qwen3_5_think", "nemotron_3_nano", "deepseek_r1_distill"):
        tokenizer = made(name)
        chat = chat_of(tokenizer)
        for text in (said, said.replace("<think>\n", "<think>")) if chat.opening else (said,):
            ids = chat.reply_ids(text)
            assert chat.text_of(ids).replace("<think>\nhm", "<think>hm") == text.replace("<think>\nhm", "<think>hm")
            assert chat.text_of(ids, thought=False) == chat.text_of(ids).removeprefix(chat.opening)
            assert between(tokenizer, ask(tokenizer, text=text)).count("<think>") == 1
    quiet = chat_of(made("qwen3"), {"enable_thinking": False})
    assert (quiet.opening, quiet.text_of(quiet.reply_ids(TEXT))) == ("", TEXT)


def test_of_several_templates_the_default_counts() -> None:
    """Hermes and Command R have one for tools, too."""
    one, several = byte_tokenizer(), byte_tokenizer()
    several.chat_template = {"tool_use": LLAMA2, "default": one.chat_template}
    assert ask(several).token_ids == ask(one).token_ids
    tasks = prompt_tasks([{"prompt": "x"}])
    assert prompt_template(several, tasks) == prompt_template(one, tasks)
    several.chat_template = {"tool_use": LLAMA2, "rag": LLAMA2}
    with pytest.raises(ValueError, match=r"multiple chat templates with no default .* \['rag', 'tool_use'\]"):
        chat_of(several)


@pytest.mark.parametrize("name", ["llava_next", "smolvlm", "idefics3"])
def test_a_template_that_shows_no_texts_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tokenizer: expected a chat template that shows messages of text, got"):
        chat_of(byte_tokenizer(template=trl_template(name)))


@pytest.mark.parametrize("text", ["a\ud800b", "\udcff", "é\udfff"])
def test_unpaired_surrogates_are_question_marks(text: str) -> None:
    """Of a query typed in another encoding, of JSON, in a text rendered beforehand: tokenizers raise a TypeError."""
    tokenizer, said = byte_tokenizer(), text.encode("utf-8", "replace").decode()
    assert ask(tokenizer, text=text).token_ids == ask(tokenizer, text=said).token_ids
    for prompt in ([Message("user", text)], [Message("system", text), Message("user", text)]):
        context = TokenContext(tokenizer)
        context.sync(prompt)
        assert said in tokenizer.decode(context.token_ids)
    tokenizer.chat_template = prompt_template(tokenizer, prompt_tasks([{"prompt": text}]))
    assert tokenizer.decode(TokenContext(tokenizer).sync([Message("user", text)])) == said


def test_arguments_of_the_template_are_hashable() -> None:
    with pytest.raises(TypeError, match=r"chat_template_kwargs: expected hashable values, got \{'tools': \[\]\}"):
        chat_of(byte_tokenizer(), {"tools": []})


def test_a_tokenizer_may_be_longer_than_the_embedding() -> None:
    """Gemma 3 1B: its <image_soft_token> is the first id without a row, and no text makes it."""
    tokenizer = byte_tokenizer(("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image_soft_token>"))
    assert check_tokens(tokenizer, None, [model(len(tokenizer) - 1), model(400)]) == len(tokenizer) - 1
    with pytest.raises(ValueError, match=r"of the 258 tokens that the model knows, got 258 \('<\|im_end\|>'\); model.resize"):
        ends_of_turn(tokenizer, None, [model(258)])

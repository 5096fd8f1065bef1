# The main job on a CPU: docker build -t ddrm-pyg . && docker run ddrm-pyg
FROM python:3.13-slim

ENV OMP_WAIT_POLICY=PASSIVE PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /package
COPY constraints.txt setup.cfg pyproject.toml README.md LICENSE ./
COPY ddrm_pyg ddrm_pyg
RUN pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install -c constraints.txt '.[parquet]'

RUN useradd --create-home reader
USER reader
WORKDIR /home/reader
ENTRYPOINT ["ddrm-pyg"]
CMD ["run"]
